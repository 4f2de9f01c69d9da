"""Proposes configurations."""
