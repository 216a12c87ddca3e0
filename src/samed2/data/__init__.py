"""Data sets: what is labelled, and samples drawn from it for training."""
