"""Status of a running study, and forecast of its end."""
