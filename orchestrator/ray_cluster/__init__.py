"""The Ray cluster that a study runs on: found, started, watched and shared."""
