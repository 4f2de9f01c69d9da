"""Datasets on disk and everything that turns their cases into batches."""
