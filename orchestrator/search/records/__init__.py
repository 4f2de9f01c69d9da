"""What is on record of trials and fits, and the scores that follow from it."""
