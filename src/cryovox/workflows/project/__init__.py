"""Results of many tomograms, from several folders, on one page."""
