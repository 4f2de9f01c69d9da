"""Import of pairs of files into verified datasets on disk."""
