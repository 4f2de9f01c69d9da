"""Files that start a cluster, or a search on one: the same text for the same values, byte for byte."""
