"""Searches with real processes, hurt on purpose, and compared with one that nobody disturbed. Run: `make chaos`."""
