"""Choice of the trial that wins, and the certainty of that choice."""
