"""Evaluation: predictions against gold labels, and numbers with their definitions."""
