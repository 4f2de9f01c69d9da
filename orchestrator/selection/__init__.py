"""Which trial wins, and how sure that is."""
