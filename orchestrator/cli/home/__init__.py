"""Commands that keep a home tidy."""
