"""The only package that writes to MLflow."""
