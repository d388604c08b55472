"""Reports: figures, HTML pages, and the checks of `cryovox doctor`."""
