"""Models: loading, adapters, answer logits, and what each family needs."""
