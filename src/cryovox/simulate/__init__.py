"""Simulated tomograms with ground truth: particles, scenes, the microscope, matching a real tomogram."""
