"""Inference: exact closed-set scoring, shifted orders, decoding, resumable prediction."""
