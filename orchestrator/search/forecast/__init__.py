"""What a study will cost before it starts."""
