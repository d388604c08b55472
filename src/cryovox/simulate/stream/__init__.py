"""Crowded boxes in milliseconds: poses made beforehand, and the microscope as one filter."""
