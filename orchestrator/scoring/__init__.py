"""Scores from probabilities and masks, with their statistics."""
