"""Training: recipe, losses and the trainer."""
