"""Checks of machine, cluster and data before anything is trained."""
