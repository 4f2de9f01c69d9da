"""Frames that show the same place, within and between datasets."""
