"""Distillation: losses, what is minimised, who teaches whom, and the one training loop."""
