"""Downloads of public structures and datasets."""
