"""From probabilities to numbers that can be compared."""
