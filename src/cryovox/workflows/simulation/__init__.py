"""Simulated datasets on disk."""
