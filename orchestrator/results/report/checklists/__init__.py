"""Reporting checklists, filled from the facts of a study."""
