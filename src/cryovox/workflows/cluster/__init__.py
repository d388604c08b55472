"""Many tomograms on many workers, by Dask Distributed."""
