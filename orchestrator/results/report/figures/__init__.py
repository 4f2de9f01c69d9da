"""Figures of a report, as matplotlib draws them, with their captions."""
