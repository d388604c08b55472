"""Suites of domain adaptation: on subtomograms, and on whole tomograms."""
