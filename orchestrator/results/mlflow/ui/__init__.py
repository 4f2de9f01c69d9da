"""Pages of a study in MLflow: descriptions, views, and the server."""
