"""Assignment of cases to folds and a hold-out test set, without a group in two parts."""
