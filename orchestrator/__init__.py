"""Hyperparameter search and cross-validation for polyp segmentation, on Ray, Optuna and MLflow."""

__version__ = "0.1.0"
