"""The microscope: tilts, optics, camera, and the way back to a tomogram."""

from cryovox.simulate.microscope.acquire import Series, acquire
from cryovox.simulate.microscope.detector import DetectorConfig
from cryovox.simulate.microscope.optics import OpticsConfig
from cryovox.simulate.microscope.reconstruct import ReconstructionConfig, reconstruct
from cryovox.simulate.microscope.spectra import match_amplitude, radial_amplitude
from cryovox.simulate.microscope.tilts import TiltConfig, Tilts, tilt_scheme

__all__ = [
    "DetectorConfig",
    "OpticsConfig",
    "ReconstructionConfig",
    "Series",
    "TiltConfig",
    "Tilts",
    "acquire",
    "match_amplitude",
    "radial_amplitude",
    "reconstruct",
    "tilt_scheme",
]
