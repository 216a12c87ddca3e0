"""Evaluation: metrics, prompt protocols, models to compare, statistics and reports."""
