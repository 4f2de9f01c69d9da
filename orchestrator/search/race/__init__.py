"""The race, which decides which trial is trained on another fold: pure functions and their state."""
