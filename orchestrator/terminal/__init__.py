"""Terminal output: lines, tables, progress bars, and the view of a running study."""
