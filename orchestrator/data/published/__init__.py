"""What is known of published datasets beyond the layout of their folders."""
