"""Commands that show what a study found, and hand it over: one module per command."""
