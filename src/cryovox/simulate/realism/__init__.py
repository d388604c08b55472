"""Measure the imaging conditions of a tomogram and apply them to a simulated one."""
