"""The only writer to MLflow."""
