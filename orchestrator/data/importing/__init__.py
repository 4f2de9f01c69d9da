"""Pairs of files -> a verified dataset on disk."""
