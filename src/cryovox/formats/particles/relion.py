"""Particle lists of RELION as data: columns with positions, shifts, angles and sizes, and conventions."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from cryovox.formats.particles.convention import CenterVoxel, Convention

StarVersion = Literal["relion5", "relion4", "relion3"]
Center = Literal["half", "half-1"]
CENTER_VOXELS: dict[str, CenterVoxel] = {"half": "n / 2", "half-1": "n / 2 - 1"}
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
SCORE, SPECIES = "rlnAutopickFigureOfMerit", "cryovoxSpecies"
OWN, CENTER = "cryovox", "cryovoxCentre"
"""Our block of a file, and the center of its coordinates."""
VERSIONS = {"relion5": "50001", "relion4": "30001", "relion3": "30001"}

RELION = Convention(
    program="RELION 5",
    extensions=(".star",),
    coordinates=tuple(CENTERED),
    unit="Å",
    origin="center",
    center="n / 2",
    shifts=tuple(SHIFTS),
    shift_sign=-1,
    eulers="ZYZ",
    angles=tuple(ANGLES),
    passive=True,
    score=SCORE,
    tomogram="rlnTomoName",
    species=SPECIES,
    pixel_size=SERIES_SIZE,
    remark="Its Python pickers count from n / 2 - 1, which is `--center half-1`; it is recorded in "
    "`data_cryovox`. "
    "`rlnTomoSubtomogramRot`, `Tilt` and `Psi` turn the subtomogram, with its shift.",
)
CONVENTIONS = {
    "relion5": RELION,
    "relion4": replace(
        RELION,
        program="RELION 4",
        coordinates=tuple(PIXELS),
        unit="voxel",
        origin="voxel",
        remark="Voxels are those of the unbinned tilt series.",
    ),
    "relion3": replace(
        RELION,
        program="RELION 3, Warp, M",
        coordinates=tuple(PIXELS),
        unit="voxel",
        origin="voxel",
        tomogram="rlnMicrographName",
        pixel_size=IMAGE_SIZE,
        remark="Shifts `rlnOriginX` to `Z` without `Angst` are in voxels of the extracted images. "
        "PySeg lists are of this kind.",
    ),
}
"""`--convention` -> convention."""
