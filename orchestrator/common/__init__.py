"""Errors, files, signals and this process: what every room needs, and what needs no other room."""
