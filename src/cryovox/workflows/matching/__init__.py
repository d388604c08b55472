"""Template matching: search of tomograms, poses at known positions, and backgrounds."""
