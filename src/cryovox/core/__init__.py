"""Data types, settings, errors and helpers that all packages share; needs only NumPy and pydantic."""
