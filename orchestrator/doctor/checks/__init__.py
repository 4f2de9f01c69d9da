"""One check of a machine, driver or cluster a file."""
