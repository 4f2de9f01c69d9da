"""Groups and centers of cases, from tables."""
