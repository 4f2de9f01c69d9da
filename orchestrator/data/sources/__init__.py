"""Pairs of images and masks from folders and archives as published."""
