"""Whether a recipe fits on a machine, known before a single weight is downloaded."""
