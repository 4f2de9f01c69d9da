"""Optimizers, learning-rate schedules, a frozen encoder, averages of weights."""
