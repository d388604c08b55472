"""Suites of domain generalization: no target is seen in training."""
