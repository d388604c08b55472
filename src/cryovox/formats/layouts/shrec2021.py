"""SHREC 2021, "classification in cryo-electron tomograms" (doi:10.34894/XRTJMA), as unpacked.

`model_0` to `model_9`, each with `reconstruction.mrc` (512^3 voxels of 10 Å), `class_mask.mrc` (labels),
`occupancy_mask.mrc` (numbers of particles) and `particle_locations.txt`: lines of name, x, y, z in voxels
of the reconstruction and three angles. The folder of the models, or the one above it, is the dataset.

Files, labels and their order are certain, and positions are x, y, z, as in the organizers' script. The
following is not:

- The angles are those of a rotation about z, x, z; their order and direction differ between public readers
  and simulators, and particles may be mirrored. They are kept as columns `angle1`, `angle2`, `angle3` and
  not converted to poses.
- Headers may lack the voxel size; it is always taken as 10 Å.
- Radii are ours: those of spheres with the mass of the protein at 1.21 Å^3 per Da. 4V94 is taken as one
  TRiC of 952 kDa and 5MRC as 3326 kDa. Vesicles and fiducials have nominal radii and no structure, which
  distinguishes them from proteins.
- The contrast is detected for every tomogram.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cryovox.core.dataset import Box, Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles, Species
from cryovox.formats import read_text

VOXEL_SIZE = 10.0
"""Voxel size in Å."""
SLAB = (165, 345)
"""Planes with content, half open."""
TEST = "model_9"
VALIDATION = "model_8"
PICKS = "particle_locations.txt"
MASSES = {
    "4V94": 952, "4CR2": 1309, "1QVR": 593, "1BXN": 560, "3CF3": 542, "1U6G": 239, "3D2F": 236,
    "2CG9": 189, "3H84": 158, "3GL1": 84.6, "3QM1": 62.6, "1S3X": 42.8, "5MRC": 3326,
}  # fmt: skip
"""Masses in kDa, in the order of the labels."""
OTHERS = {"vesicle": 350.0, "fiducial": 50.0}
"""Labels 14 and 15, which are not proteins, with nominal radii in Å."""

Protocol = Literal["clean", "paper"]


def species() -> tuple[Species, ...]:
    """The fifteen species with the labels of `class_mask.mrc`."""
    radii = {name: round((3 * 1210 * mass / (4 * np.pi)) ** (1 / 3), 1) for name, mass in MASSES.items()}
    return tuple(
        Species(name=name, label=label, radius=radius, structure=name if name in MASSES else None)
        for label, (name, radius) in enumerate((radii | OTHERS).items(), 1)
    )


def is_here(folder: Path) -> bool:
    """Whether a folder contains models, or a folder with models."""
    return _root(folder) is not None


def read(folder: Path, protocol: Protocol = "clean") -> Dataset:
    """Describe the dataset without copying.

    Parameters
    ----------
    folder
        Folder with `model_0` to `model_9`, or some of them, or with a folder that contains them.
    protocol
        "clean" trains on models 0 to 7, validates on 8 and uses only planes with content. "paper" trains on 0
        to 8 on all planes, as in the comparison of MVGFormer. Both test on 9.
    """
    if protocol not in get_args(Protocol):
        raise RequestError("protocol", f"is {protocol!r}", f"choose from {', '.join(get_args(Protocol))}")
    root = _root(folder)
    if root is None:
        raise RequestError(folder, "holds no model_0 to model_9", "unpack shrec2021_full_dataset.zip there")
    entries = tuple(_entry(model, protocol) for model in _models(root))
    return Dataset(voxel_size=VOXEL_SIZE, species=species(), entries=entries)


def is_volume_of(path: Path) -> bool:
    """Whether a file is a volume of the dataset, whose header may lack the voxel size."""
    file = path.resolve()
    return file.parent.name.startswith("model_") and file.name in ("reconstruction.mrc", "class_mask.mrc")


def read_picks(path: Path) -> Particles:
    """Read `particle_locations.txt`.

    Returns
    -------
    Particles
        Particles in the order of the file, to which the numbers in `occupancy_mask.mrc` refer.
    """
    official = {name.lower(): name for name in (*MASSES, *OTHERS)}
    names: list[str] = []
    numbers: list[list[float]] = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        words = text.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:7]]
            if len(values) < 3 or not np.isfinite(values[:3]).all() or words[0].lower() not in official:
                raise ValueError
        except ValueError:
            message = f"line {line} is no species of the dataset with x, y and z: {text!r}"
            raise RequestError(path, message, "copy the file again") from None
        names.append(official[words[0].lower()])
        numbers.append(values + [np.nan] * (6 - len(values)))
    table = np.array(numbers).reshape(-1, 6)
    particles = Particles.of(table[:, 2::-1] * VOXEL_SIZE, names)
    angles = {f"angle{i}": table[:, 2 + i] for i in (1, 2, 3)}
    return replace(particles, extra=angles)


def _root(folder: Path) -> Path | None:
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return next((root for root in (folder, *subfolders) if _models(root)), None)


def _models(root: Path) -> list[Path]:
    return [root / f"model_{i}" for i in range(10) if (root / f"model_{i}" / "reconstruction.mrc").is_file()]


def _entry(model: Path, protocol: Protocol) -> Entry:
    labels, picks = model / "class_mask.mrc", model / PICKS
    for path in (labels, picks):
        if not path.is_file() and model.name != TEST:  # the test model was released later
            raise RequestError(path, "there is no such file", "unpack shrec2021_full_dataset.zip again")
    is_validation = protocol == "clean" and model.name == VALIDATION
    return Entry(
        name=model.name,
        tomogram=model / "reconstruction.mrc",
        labels=labels if labels.is_file() else None,
        particles=picks if picks.is_file() else None,
        box=Box(z=SLAB) if protocol == "clean" else Box(),
        tilt_range=(-60.0, 60.0),
        split="test" if model.name == TEST else "val" if is_validation else "train",
    )
