"""The Ray cluster of a study: found or started, monitored and shared."""
