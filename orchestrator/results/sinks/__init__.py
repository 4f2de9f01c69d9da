"""Where the results of a study go, apart from MLflow: the console, CSV files; and how its records are followed."""
