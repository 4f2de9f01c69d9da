"""One self-contained page about one or several studies, tables for a paper, and reporting checklists."""
