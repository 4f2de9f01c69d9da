"""The edge: MLflow, tables, pictures, export. Reached from cli and study alone."""
