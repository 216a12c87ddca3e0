"""Models that can be evaluated, by name."""
