"""Decoded images on disk, shared by all fits of a node."""
