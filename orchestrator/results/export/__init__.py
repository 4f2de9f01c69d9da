"""Export of a trained network as files that other programs load, and prediction with these files."""
