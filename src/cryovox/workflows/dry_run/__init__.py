"""What runs will take in time, memory and disk, predicted from short probes; nothing is written."""
