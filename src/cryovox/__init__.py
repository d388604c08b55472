"""From a cryo-electron tomogram to a trustworthy segmentation and particle list."""

__version__ = "0.1.0"
