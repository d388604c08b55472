"""What other programs read of files that cryovox writes, format by format, and what cryovox reads of theirs.

    python benchmarks/third_party_readers.py docs/how-to/third-party-readers.md [--cryocat PYTHON]

PYTHON is that of an environment with cryoCAT, whose libraries are older; without it, its rows say "not installed".
Random particles, and a random volume, are written; the library of each row reads them, and its numbers become Å
and rotation matrices by the formula of the row, which is independent of the code of cryovox. Then the library
writes the file, if it can, and cryovox reads it. The table is written between two comments of the page.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, write_particles, write_volume

BEGIN, END = "<!-- begin of the generated table -->", "<!-- end of the generated table -->"
HEAD = ("format", "read by", "version", "largest difference", "angles", "written by it and read back")
COUNT, SIZE = 200, 7.84
FRAME = Volume(np.broadcast_to(np.int8(0), (51, 60, 71)), SIZE)
XYZ = "XYZ"


@dataclass(frozen=True)
class Reader:
    """A library that reads a format.

    Attributes
    ----------
    name, library, file, convention
        Format, library, file name and `--convention`.
    read
        File -> positions (x, y, z) in Å and rotation matrices or None, by the library.
    copy
        Write what the library read to another file, by the library; None if it does not write.
    """

    name: str
    library: str
    file: str
    convention: str | None
    read: Callable[[Path], tuple[Any, Any]]
    copy: Callable[[Path, Path], None] | None = None


def _star(path: Path, coordinates: str, block: str = "particles") -> tuple[Any, Any]:
    """RELION: angles turn the tomogram into the reference."""
    import starfile

    rows = starfile.read(path, always_dict=True)[block]
    xyz = rows[[coordinates.format(axis) for axis in XYZ]].to_numpy(float)
    angles = rows[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float)
    return xyz, Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()


def _relion5(path: Path) -> tuple[Any, Any]:
    xyz, turns = _star(path, "rlnCenteredCoordinate{}Angst")
    return xyz + SIZE * np.array(FRAME.shape[::-1]) / 2, turns


def _relion_voxels(path: Path) -> tuple[Any, Any]:
    xyz, turns = _star(path, "rlnCoordinate{}")
    return xyz * SIZE, turns


def _stopgap(path: Path) -> tuple[Any, Any]:
    """The first voxel is 1; angles phi, the, psi turn the reference about z, x, z of the tomogram."""
    import starfile

    rows = next(iter(starfile.read(path, always_dict=True).values()))
    xyz = rows[[f"orig_{axis}" for axis in "xyz"]].to_numpy(float)
    xyz = xyz + rows[[f"{axis}_shift" for axis in "xyz"]].to_numpy(float)
    turns = Rotation.from_euler("zxz", rows[["phi", "the", "psi"]].to_numpy(float), degrees=True)
    return (xyz - 1) * SIZE, turns.as_matrix()


def _copy_star(source: Path, target: Path) -> None:
    import starfile

    starfile.write(starfile.read(source, always_dict=True), target)


def _dynamo(path: Path) -> tuple[Any, Any]:
    """The first voxel is 1; angles are those of the rotation of the tomogram into the reference."""
    import dynamotable

    rows = dynamotable.read(path)
    xyz = rows[["x", "y", "z"]].to_numpy(float) + rows[["dx", "dy", "dz"]].to_numpy(float)
    turns = Rotation.from_euler("zxz", rows[["tdrot", "tilt", "narot"]].to_numpy(float), degrees=True)
    return (xyz - 1) * SIZE, turns.inv().as_matrix()


def _copy_dynamo(source: Path, target: Path) -> None:
    import dynamotable

    dynamotable.write(dynamotable.read(source), target)


def _motive_list(path: Path) -> tuple[Any, Any]:
    import emfile

    rows = np.asarray(emfile.read(path)[1][0], np.float64)
    turns = Rotation.from_euler("zxz", rows[:, [16, 18, 17]], degrees=True)
    return (rows[:, 7:10] + rows[:, 10:13] - 1) * SIZE, turns.as_matrix()


def _copy_em(source: Path, target: Path) -> None:
    import emfile

    emfile.write(target, np.asarray(emfile.read(source)[1]))


def _imod(path: Path) -> tuple[Any, Any]:
    """The first voxel has its center at 0.5, 0.5, 0."""
    import imodmodel

    return (imodmodel.read(path)[["x", "y", "z"]].to_numpy(float) - [0.5, 0.5, 0.0]) * SIZE, None


def _copick(path: Path) -> tuple[Any, Any]:
    from copick.models import CopickPicksFile

    points = CopickPicksFile.model_validate_json(path.read_text()).points
    xyz = np.array([[p.location.x, p.location.y, p.location.z] for p in points])
    matrices = np.array([p.transformation_ for p in points])
    return xyz + matrices[:, :3, 3], matrices[:, :3, :3]


def _copy_copick(source: Path, target: Path) -> None:
    from copick.models import CopickPicksFile

    target.write_text(CopickPicksFile.model_validate_json(source.read_text()).model_dump_json())


LISTS = (
    Reader("STAR, RELION 5", "starfile", "a.star", "relion5", _relion5, _copy_star),
    Reader("STAR, RELION 4", "starfile", "a.star", "relion4", _relion_voxels, _copy_star),
    Reader("STAR, RELION 3, Warp, M", "starfile", "a.star", "relion3", _relion_voxels, _copy_star),
    Reader("STAR, STOPGAP", "starfile", "a.star", "stopgap", _stopgap, _copy_star),
    Reader("Dynamo table", "dynamotable", "a.tbl", None, _dynamo, _copy_dynamo),
    Reader("motive list (.em)", "emfile", "a.em", None, _motive_list, _copy_em),
    Reader("IMOD model", "imodmodel", "a.mod", None, _imod),
    Reader("copick picks", "copick", "a.json", None, _copick, _copy_copick),
)


def _mrc(path: Path) -> tuple[Any, float]:
    import mrcfile

    with mrcfile.open(path) as file:
        return np.array(file.data), float(file.voxel_size.x)


def _em(path: Path) -> tuple[Any, float]:
    import emfile

    header, data = emfile.read(path)
    return data, header["OBJ"] / 100


def _tiff(path: Path) -> tuple[Any, float]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        size = file.ome_metadata.split('PhysicalSizeX="')[1].split('"')[0]
        return file.asarray(), float(size)


def _hdf5(path: Path) -> tuple[Any, float]:
    import h5py

    with h5py.File(path) as file:
        image = file["MDF/images/0"]
        return image["image"][...], float(image.attrs["EMAN.apix_x"][0])


def _zarr(path: Path) -> tuple[Any, float]:
    import zarr

    root = zarr.open_group(path, mode="r")
    steps = root.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    return root["0"][...], float(steps[0]["scale"][0])


VOLUMES = (
    ("MRC", "mrcfile", "a.mrc", _mrc),
    ("OME-Zarr 0.5", "zarr", "a.zarr", _zarr),
    ("EM", "emfile", "a.em", _em),
    ("OME-TIFF", "tifffile", "a.tif", _tiff),
    ("HDF5", "h5py", "a.h5", _hdf5),
)


def differences(found: tuple[Any, Any], particles: Particles) -> tuple[str, str]:
    """Largest differences in Å and degrees, as text."""
    xyz, turns = found
    length = np.abs(np.asarray(xyz)[:, ::-1] - particles.positions).max()
    if turns is None or particles.rotations is None:
        return f"{length:.1e} Å", "not stored"
    angle = Rotation.from_matrix(np.asarray(turns).swapaxes(1, 2) @ particles.rotations).magnitude().max()
    return f"{length:.1e} Å", f"{np.degrees(angle):.1e}°"


CRYOCAT = (
    ("motive list (.em)", "a.em", None),
    ("Dynamo table", "a.tbl", None),
    ("STAR, STOPGAP", "stopgap.star", "stopgap"),
    ("STAR, RELION 3, Warp, M", "relion3.star", "relion3"),
    ("STAR, RELION 4", "relion4.star", "relion4"),
    ("STAR, RELION 5", "relion5.star", "relion5"),
    ("IMOD model", "a.mod", None),
)
FIRST_VOXEL = {
    "relion3.star": (0, 0, 0),
    "relion4.star": (0, 0, 0),
    "relion5.star": (0, 0, 0),
    "a.mod": (0.5, 0.5, 0),
}
"""Coordinates x, y, z of the center of the first voxel; 1 in others."""
TOMOGRAMS = """
data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoTomogramBinning #3
_rlnTomoSizeX #4
_rlnTomoSizeY #5
_rlnTomoSizeZ #6
TS_01 {size} 1.0 {x} {y} {z}
"""


def rows_of_cryocat(python: Path | None, folder: Path) -> list[tuple[str, ...]]:
    """Rows of cryoCAT, which keeps the numbers of a file, so a constant of 1 voxel or 0 is that of the format."""
    if python is None:
        return [(name, "cryoCAT", "not installed", "", "", "") for name, *_ in CRYOCAT]
    particles = random_particles()
    images = [
        f"subtomo/TS_01/TS_01_{i:07d}_{SIZE}A.mrc" for i in range(COUNT)
    ]  # it numbers particles by them
    names = [f"TS_01/{i}" for i in range(1, COUNT + 1)]  # in lists of RELION 4 and 5 by these
    extra = {"rlnImageName": np.array(images), "rlnTomoParticleName": np.array(names)}
    particles = replace(particles, extra=extra)
    z, y, x = FRAME.shape
    (folder / "tomograms.star").write_text(TOMOGRAMS.format(size=SIZE, x=x, y=y, z=z))
    for _, file, convention in CRYOCAT:
        write_particles(folder / file, particles, tomogram=FRAME, convention=convention)
    script = Path(__file__).with_name("cryocat_reader.py")
    subprocess.run([python, script, folder, str(SIZE)], check=True)
    read = json.loads((folder / "cryocat.json").read_text())
    rows = []
    for name, file, _ in CRYOCAT:
        own = read[file]
        if isinstance(own, str):
            rows.append((name, "cryoCAT", read["version"], own, "", ""))
            continue
        first = np.array(FIRST_VOXEL.get(file, (1, 1, 1)))
        turns = None
        if "angles" in own:
            turns = Rotation.from_euler("zxz", np.array(own["angles"]), degrees=True).as_matrix()
        length, angle = differences(((np.array(own["xyz"]) - first) * SIZE, turns), particles)
        listed = f"{first[0]:g}" if len(set(first)) == 1 else ", ".join(f"{value:g}" for value in first)
        back = _converted(folder, particles) if file == "relion3.star" else ""
        rows.append((name, "cryoCAT", read["version"], f"{length} (first voxel {listed})", angle, back))
    return rows


def _converted(folder: Path, particles: Particles) -> str:
    """What cryovox reads of the list that cryoCAT converted from RELION to .em."""
    if not (folder / "converted.em").exists():
        return "relion2emmotl: no file"
    own = read_particles(folder / "converted.em", tomogram=FRAME)
    offset = (own.positions - particles.positions) / SIZE
    mean = offset.mean(axis=0)
    angle = differences((own.positions[:, ::-1], own.rotations), particles)[1]
    rest = np.abs(offset - mean).max() * SIZE
    return f"relion2emmotl: {mean.mean():+.3f} voxel along each axis, else {rest:.1e} Å, {angle}"


def random_particles() -> Particles:
    """Particles in the frame, with scores and orientations."""
    rng = np.random.default_rng(0)
    return Particles.of(
        rng.uniform(0, 1, (COUNT, 3)) * np.array(FRAME.shape) * SIZE,
        "ribosome",
        scores=rng.random(COUNT),
        rotations=Rotation.random(COUNT, rng=rng).as_matrix(),
        tomograms="TS_01",
    )


def row_of_list(reader: Reader, folder: Path) -> tuple[str, ...]:
    """A row of the table."""
    particles = random_particles()
    path, again = folder / reader.file, folder / f"again-{reader.file}"
    write_particles(path, particles, tomogram=FRAME, convention=reader.convention)
    length, angle = differences(reader.read(path), particles)
    back = "does not write"
    if reader.copy is not None:
        again.unlink(missing_ok=True)
        reader.copy(path, again)
        loaded = read_particles(again, tomogram=FRAME)
        back = ", ".join(differences((loaded.positions[:, ::-1], loaded.rotations), particles))
    return reader.name, reader.library, version(reader.library), length, angle, back


def row_of_volume(name: str, library: str, file: str, read: Any, folder: Path) -> tuple[str, ...]:
    """A row of the table."""
    data = np.random.default_rng(0).standard_normal((21, 30, 41)).astype(np.float32)
    write_volume(folder / file, Volume(data, SIZE))
    found, size = read(folder / file)
    largest = (
        f"{np.abs(np.asarray(found) - data).max():g} (gray values), {abs(size - SIZE):.1e} Å (voxel size)"
    )
    own = read_volume(folder / file)
    back = "same" if np.array_equal(np.asarray(own.data), data) and own.voxel_size == SIZE else "differs"
    return name, library, version(library), largest, "", f"{back} by cryovox"


def table(cryocat: Path | None) -> str:
    """The table in Markdown; libraries that are not installed are named as such."""
    rows = [HEAD, ("---",) * len(HEAD)]
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        for reader in LISTS:
            try:
                import_module(reader.library)
            except ImportError:
                rows.append((reader.name, reader.library, "not installed", "", "", ""))
                continue
            rows.append(row_of_list(reader, folder))
        rows += rows_of_cryocat(cryocat, folder)
        rows += [row_of_volume(*volume, folder) for volume in VOLUMES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Write the table into each page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path, nargs="*")
    parser.add_argument("--cryocat", type=Path, help="Python of an environment with cryoCAT")
    options = parser.parse_args()
    text = table(options.cryocat)
    print(text)
    for page in options.pages:
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
