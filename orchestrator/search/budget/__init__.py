"""Budget of a study: its limits, the amounts used so far, and whether another trial may begin."""
