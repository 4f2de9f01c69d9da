"""The sections of a model card, as text from plain facts, which the exporting code gathers."""
