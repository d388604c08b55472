"""Labelled tomograms from nothing: particles, scenes, a microscope, and the likeness of a measured one."""
