"""Plugin of napari: readers, writers and a widget; needs `pip install "cryovox[napari]"`."""
