"""MRC files that hold no volume: stacks of volumes, stacks of images, tilt series.

The format marks a stack of volumes by a space group of 401 and more, and counts the sections of one volume
in MZ. A stack of images has space group 0, but so have many tomograms: these are told apart by the ending
of the name, and by what microscopes write about each image into the extended header.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import get_ext_header_dtype

from cryovox.core.errors import RequestError
from cryovox.formats import ending, is_images

VOLUME_STACK = 401
RECONSTRUCTION = ".rec"
PER_IMAGE = (b"SERI", b"AGAR")
TILTED = (b"FEI1", b"FEI2")


def refuse_stacks(path: Path, record: Any, extended: bytes) -> None:
    """Refuse what is a stack of volumes or of images.

    Parameters
    ----------
    path
        Its ending counts: `.st`, `.ali` and `.mrcs` are images, `.rec` is a reconstruction.
    record
        Header as a record of ``mrcfile.dtypes.HEADER_DTYPE``.
    extended
        Extended header, or the beginning of a long one.
    """
    sections, planes = int(record["nz"]), int(record["mz"])
    if int(record["ispg"]) >= VOLUME_STACK and 0 < planes < sections:
        told = (
            f"is a stack of {sections / planes:g} volumes of {planes} planes (space group {record['ispg']})"
        )
        raise RequestError(path, told, "write each volume to a file of its own, for example with `newstack`")
    if is_images(path) or _is_series(path, record, extended):
        told = f"is a stack of {sections} images, such as a tilt series, and not a tomogram"
        remedy = "name the reconstructed tomogram; if this is one, call the file NAME.rec"
        raise RequestError(path, told, remedy)


def _is_series(path: Path, record: Any, extended: bytes) -> bool:
    """Whether the extended header describes images; programs that reconstruct may copy it into `.rec`."""
    kind = bytes(record["exttyp"])
    if int(record["ispg"]) != 0 or ending(path) == RECONSTRUCTION:
        return False
    if kind in TILTED:
        return _varies(kind, record, extended)
    return kind in PER_IMAGE and len(extended) > 0


def _varies(kind: bytes, record: Any, extended: bytes) -> bool:
    """Whether the tilt angle of FEI's extended header differs between sections."""
    dtype = get_ext_header_dtype(kind, record["nz"].dtype.byteorder)
    count = min(int(record["nz"]), len(extended) // dtype.itemsize)
    if count < 2:
        return False
    angles = np.frombuffer(extended, dtype, count)["Alpha tilt"]
    return bool(np.ptp(angles[np.isfinite(angles)]) > 0) if np.isfinite(angles).any() else False
