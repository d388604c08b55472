"""MRC files without a volume: stacks of volumes, stacks of images, tilt series.

A stack of volumes has a space group of 401 or more, and MZ is the number of sections of one volume. A stack
of images has space group 0, as many tomograms do; it is recognized by the extension of the file, and by the
metadata of each image that microscopes write into the extended header.
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


def check_no_stack(path: Path, record: Any, extended: bytes) -> None:
    """Raise an error for a stack of volumes or of images.

    Parameters
    ----------
    path
        File; extensions `.st`, `.ali` and `.mrcs` are images, `.rec` is a reconstruction.
    record
        Header as a record of ``mrcfile.dtypes.HEADER_DTYPE``.
    extended
        Extended header, or its first part if it is long.
    """
    sections, planes = int(record["nz"]), int(record["mz"])
    if int(record["ispg"]) >= VOLUME_STACK and 0 < planes < sections:
        message = (
            f"is a stack of {sections / planes:g} volumes of {planes} planes (space group {record['ispg']})"
        )
        raise RequestError(
            path, message, "write each volume to a file of its own, for example with `newstack`"
        )
    if is_images(path) or _is_series(path, record, extended):
        message = f"is a stack of {sections} images, such as a tilt series, and not a tomogram"
        remedy = "name the reconstructed tomogram; if this is one, call the file NAME.rec"
        raise RequestError(path, message, remedy)


def _is_series(path: Path, record: Any, extended: bytes) -> bool:
    """Whether the extended header describes images; reconstruction programs may copy it into `.rec`."""
    kind = bytes(record["exttyp"])
    if int(record["ispg"]) != 0 or ending(path) == RECONSTRUCTION:
        return False
    if kind in TILTED:
        return _tilt_varies(kind, record, extended)
    return kind in PER_IMAGE and len(extended) > 0


def _tilt_varies(kind: bytes, record: Any, extended: bytes) -> bool:
    """Whether the tilt angles of an FEI extended header differ between sections."""
    dtype = get_ext_header_dtype(kind, record["nz"].dtype.byteorder)
    count = min(int(record["nz"]), len(extended) // dtype.itemsize)
    if count < 2:
        return False
    angles = np.frombuffer(extended, dtype, count)["Alpha tilt"]
    return bool(np.ptp(angles[np.isfinite(angles)]) > 0) if np.isfinite(angles).any() else False
