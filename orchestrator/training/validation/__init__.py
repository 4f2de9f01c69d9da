"""Predictions of a network for validation images, after each epoch and after the fit, and their scores."""
