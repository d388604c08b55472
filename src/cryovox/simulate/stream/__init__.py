"""Fast simulation for training: precomputed poses, and the microscope as one filter."""
