"""What is printed: lines, tables, progress bars, and the view of a running study."""
