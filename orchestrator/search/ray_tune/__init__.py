"""Adapters to Ray Tune: Searcher, scheduler, Trainable."""
