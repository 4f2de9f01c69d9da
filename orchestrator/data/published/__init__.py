"""Facts on published datasets beyond the layout of their folders."""
