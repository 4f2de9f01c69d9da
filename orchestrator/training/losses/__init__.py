"""Losses by name, on logits."""
