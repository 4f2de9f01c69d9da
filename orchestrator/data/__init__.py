"""Cases on disk -> batches."""
