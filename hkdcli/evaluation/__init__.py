"""Evaluation: predictions against gold labels, and numbers with their definitions."""

HEADLINE = ("micro_f1", "macro_f1", "hallucinated_f1", "exact_match")  # scores that people look at first
