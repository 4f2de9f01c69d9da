"""Errors, files, signals and process properties: used by every package, without using any other."""
