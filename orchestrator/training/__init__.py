"""One fit: a network trained on one fold."""
