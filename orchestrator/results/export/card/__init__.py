"""The sections of a model card, as text from plain facts; whoever exports gathers these."""
