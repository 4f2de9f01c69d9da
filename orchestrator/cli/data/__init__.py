"""`orchestrator data`: import, show, check, split and cache datasets."""
