"""Outlines of polyps in annotation files: reading them, and drawing masks from them."""
