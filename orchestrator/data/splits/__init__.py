"""Cases -> folds and a hold-out test set that no group straddles."""
