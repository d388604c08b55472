"""Labelled tomograms from nothing."""
