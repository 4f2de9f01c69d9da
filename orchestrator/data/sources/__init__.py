"""Folders and archives as published -> pairs of images and masks."""
