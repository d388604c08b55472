"""Suites of picking from few labels: data, methods and scores."""
