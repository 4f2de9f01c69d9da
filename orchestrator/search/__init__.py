"""What to try, what to stop, what is finished."""
