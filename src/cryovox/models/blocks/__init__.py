"""Layers and larger parts that networks are built from."""
