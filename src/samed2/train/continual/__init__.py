"""Continual learning: tasks that arrive one after another, and what each method forgets."""
