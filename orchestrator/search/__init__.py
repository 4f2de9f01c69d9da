"""Hyperparameter search: which configuration is tried, which trial is stopped, when a study is finished."""
