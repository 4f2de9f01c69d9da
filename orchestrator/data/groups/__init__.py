"""A table of groups and centers -> the group and center of every case."""
