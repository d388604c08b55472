"""The microscope: tilt scheme, optics, detector, and reconstruction."""

from cryovox.simulate.config.microscope import DetectorConfig, OpticsConfig, ReconstructionConfig, TiltConfig
from cryovox.simulate.microscope.acquire import TiltSeries, acquire
from cryovox.simulate.microscope.reconstruct import reconstruct
from cryovox.simulate.microscope.spectra import radial_amplitude
from cryovox.simulate.microscope.tilts import Tilts, tilt_scheme

__all__ = [
    "DetectorConfig",
    "OpticsConfig",
    "ReconstructionConfig",
    "TiltConfig",
    "TiltSeries",
    "Tilts",
    "acquire",
    "radial_amplitude",
    "reconstruct",
    "tilt_scheme",
]
