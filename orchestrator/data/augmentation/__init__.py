"""Augmentation pipelines."""
