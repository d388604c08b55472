"""Settings of the simulator; they import no SciPy and no torch, so that help and refusals are quick."""
