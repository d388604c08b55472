"""Evaluation on held-out data, and without labels."""
