"""What a study may spend, what it has spent, and whether another trial may begin."""
