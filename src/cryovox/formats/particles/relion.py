"""Columns of RELION particle lists with positions, shifts, angles and pixel sizes."""

from __future__ import annotations

PIXELS = [f"rlnCoordinate{axis}" for axis in "XYZ"]
CENTERED = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
SHIFTS = [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
PIXEL_SHIFTS = [f"rlnOrigin{axis}" for axis in "XYZ"]
SHIFT_PRIORS = [f"rlnOrigin{axis}PriorAngst" for axis in "XYZ"]
ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
ANGLE_PRIORS = [f"{tag}Prior" for tag in ANGLES]
FRAMES = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
SERIES_SIZE, IMAGE_SIZE = "rlnTomoTiltSeriesPixelSize", "rlnImagePixelSize"
SIZES = [SERIES_SIZE, "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize", IMAGE_SIZE]
"""Pixel sizes in Å, those of coordinates first; that of extracted images is the last choice."""
DETECTOR = ["rlnDetectorPixelSize", "rlnMagnification"]
GROUP = "rlnOpticsGroup"
GEOMETRY = {*PIXELS, *CENTERED, *SHIFTS, *PIXEL_SHIFTS, *ANGLES, *FRAMES, *SIZES, *DETECTOR}
CARRIED = (*SHIFTS, *ANGLES, *FRAMES, GROUP)
"""Columns that positions and rotations already include. Only STAR files get them back, since extracted images
and priors refer to them."""
