"""Checks of machines, drivers and clusters, one per file."""
