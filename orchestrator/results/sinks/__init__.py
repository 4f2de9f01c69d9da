"""Sinks for the results of a study apart from MLflow (console, CSV files), and replay of its records."""
