"""Convert a volume; repair, flip and resample it on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.intensity import slabs, statistics
from cryovox.core.volume import Volume
from cryovox.formats import read_header, read_volume, resample, write_volume
from cryovox.workflows.config import ConvertConfig


def convert_volume(source: Path, target: Path, config: ConvertConfig, verify: bool) -> str:
    """Convert one volume; returns a line that says what was done."""
    volume, remarks = _repaired(source, config)
    size = _new_size(volume, config)
    if size is not None:
        if statistics(volume.data).not_finite:
            raise RequestError(source, "holds NaN, which resampling would spread", "add --fill-nan")
        volume = resample.resample(volume, size)
        remarks.append(f"resampled to {size:g} Å")
    write_volume(target, volume)
    if verify:
        _verify(volume, target)
        remarks.append("verified")
    stored = read_header(target)
    if (stored.origin, stored.nstart) == ((0, 0, 0), (0, 0, 0)) != (volume.origin, volume.nstart):
        remarks.append("without its origin, which the file does not store")
    if stored.voxel_size is None:
        remarks.append(f"which the file does not store: read it with --voxel-size {volume.voxel_size:g}")
    z, y, x = volume.shape
    shape = f"{z} x {y} x {x} voxels (z, y, x) of {volume.voxel_size:g} Å"
    return f"{target}: " + ", ".join([shape, *remarks])


def _stored(source: Path, volume: Volume) -> str:
    """Which resolution of a store was read, and where it starts."""
    shift = [a - b for a, b in zip(volume.origin, read_header(source).origin, strict=True)]
    text = f"stored voxels of {volume.voxel_size:g} Å"
    if not any(shift):
        return text
    z, y, x = shift
    return f"{text}, the first of which is x {x:g}, y {y:g}, z {z:g} Å from the first of the finest ones"


def _new_size(volume: Volume, config: ConvertConfig) -> float | None:
    if config.bin is None:
        return config.resample
    if config.resample is not None:
        raise RequestError("--bin", "and --resample both give a voxel size", "leave one of them out")
    return volume.voxel_size * config.bin


def _repaired(source: Path, config: ConvertConfig) -> tuple[Volume, list[str]]:
    """The volume with its gray values repaired and its axes flipped, and what was done."""
    volume = read_volume(source, config.voxel_size, stored_voxel_size=config.stored_voxel_size)
    remarks = []
    if config.stored_voxel_size is not None:
        remarks.append(_stored(source, volume))
    if config.unsigned_bytes:
        volume = _unsigned(source, volume)
        remarks.append("bytes read as unsigned")
    if config.fill_nan:
        volume, count = _filled(volume)
        remarks.append(f"{count} values filled")
    if config.invert:
        volume = volume.with_data(-np.asarray(volume.data, dtype=np.float32))
        remarks.append("inverted")
    if config.flips:
        steps = tuple(slice(None, None, -1 if axis in config.flips else 1) for axis in "zyx")
        volume = volume.with_data(np.asarray(volume.data)[steps])
        remarks.append(f"flipped in {', '.join(config.flips)}")
    return volume, remarks


def _verify(volume: Volume, target: Path) -> None:
    stored = read_volume(target, read_header(target).voxel_size or volume.voxel_size)
    if abs(stored.voxel_size / volume.voxel_size - 1) > 1e-5:
        message = f"says voxels of {stored.voxel_size:g} Å, not {volume.voxel_size:g} Å"
        raise RequestError(target, message, "report this, with both files")
    same = all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(slabs(volume.data), slabs(stored.data), strict=True)
    )
    if not same and not np.allclose(stored.data, volume.data, rtol=1e-6, equal_nan=True):
        raise RequestError(target, "does not read back as it was written", "report this, with both files")


def _unsigned(source: Path, volume: Volume) -> Volume:
    if volume.data.dtype != np.int8:
        raise RequestError("--unsigned-bytes", f"{source} holds no signed bytes", "leave it out")
    return volume.with_data(np.asarray(volume.data).view(np.uint8))


def _filled(volume: Volume) -> tuple[Volume, int]:
    moments = statistics(volume.data)
    if not moments.not_finite:
        return volume, 0
    data: NDArray[np.float32] = np.array(volume.data, dtype=np.float32)
    data[~np.isfinite(data)] = 0.0 if np.isnan(moments.mean) else moments.mean
    return volume.with_data(data), moments.not_finite
