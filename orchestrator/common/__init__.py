"""Errors, files, signals and process properties: used by every room, without using any other."""
