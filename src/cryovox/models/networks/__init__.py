"""One network per file; the table `cryovox.models.NETWORKS` has a row for each."""
