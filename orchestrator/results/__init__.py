"""Output of results: MLflow, tables, pictures, export. Imported by api, cli and protocols alone."""
