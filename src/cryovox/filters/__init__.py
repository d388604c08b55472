"""Filters of gray values: smoothing, noise estimation, and matching the appearance of another domain.

Tensors are (b, 1, z, y, x). Half precision is computed in single precision and returned as it came.
"""
