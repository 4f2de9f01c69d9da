"""Files that start a cluster, or a search on one: byte for byte the same for the same values."""
