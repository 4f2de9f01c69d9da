"""Objectives, secondary objectives, constraints and model cost."""
