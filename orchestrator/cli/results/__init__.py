"""Commands that show and export the results of a study: one module per command."""
