"""Converters: one original layout of a data set in, cases out."""
