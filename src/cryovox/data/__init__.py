"""From annotated tomograms to batches."""
