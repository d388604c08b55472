"""Denoise tomograms, from disk to disk and slab by slab."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.intensity import Normalization
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.unfinished import NO_PARTS, UnfinishedParts
from cryovox.core.volume import Volume, Voxels
from cryovox.formats import mrc, read_volume
from cryovox.workflows.batch import Failures, Job, Result, run_batch
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.inputs import checked_statistics, expand, refuse_wrapped_bytes
from cryovox.workflows.manifest import Manifest, locked

if TYPE_CHECKING:
    from torch import Tensor

SLAB_VOXELS = 1 << 23
"""Voxels of a slab, which has 8 planes at least; a filter holds up to 70 bytes for each."""


def denoise(
    tomograms: list[Path],
    out: Path,
    config: DenoiseConfig | None = None,
    *,
    device: Device = "auto",
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, dict[str, Any]], Failures]:
    """Denoise tomograms; results of an earlier run with the same settings are kept.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    out
        Output folder: `denoised/NAME.mrc`, with the gray values of the tomogram, and `manifest.json`.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.

    Returns
    -------
    entries, failures
        Entries of the manifest for the denoised tomograms, and what went wrong with the others.
    """
    config = (config or DenoiseConfig()).resolved()
    files = expand(tomograms)
    job = Denoising(out, config, choose_device(device))
    for name, path in files.items():
        if path.resolve() == job.output(name).resolve():
            raise RequestError(path, "would be replaced by its own result", "choose another --out")
    facts = {"command": "denoise", "device": job.device, "config": config.model_dump(mode="json")}
    manifest = Manifest(out, facts, "denoise")
    return run_batch(job, files, manifest, overwrite=overwrite, on_progress=on_progress)


@dataclass(frozen=True)
class Denoising(Job):
    """Write the denoised tomogram."""

    out: Path
    config: DenoiseConfig
    device: str

    def output(self, name: str) -> Path:
        return self.out / "denoised" / f"{name}.mrc"

    def key(self, name: str) -> dict[str, Any]:
        return {"settings": self.config.model_dump(mode="json", exclude={"slab"})}

    def load(self, name: str, path: Path) -> tuple[Volume, Normalization]:
        volume = read_volume(path, self.config.voxel_size)
        refuse_wrapped_bytes(path, volume)
        moments = checked_statistics(path, volume)
        return volume, Normalization(moments.mean, moments.std)

    def parts(self, name: str) -> UnfinishedParts:
        return UnfinishedParts.beside(self.output(name), device=self.device)

    def process(
        self, name: str, loaded: tuple[Volume, Normalization], on_progress: ProgressCallback
    ) -> Result:
        volume, normalize = loaded
        frame = volume.shape, "f4", volume.voxel_size, volume.origin
        with mrc.create(self.output(name), *frame, volume.nstart) as out:
            removed = denoise_into(
                out, volume, normalize, self.config, self.device, on_progress, self.parts(name)
            )
        facts = {"voxel_size": volume.voxel_size, "removed": round(removed, 4)}
        return Result({"denoised": self.output(name)}, facts)


def filter_share(
    out: Path, config: DenoiseConfig, device: Device, path: Path, name: str, share: tuple[int, int]
) -> None:
    """Filter a share of the slabs of a tomogram, unless it is finished or the filter is not local.

    Parameters
    ----------
    share
        Number of the share, and of shares.
    """
    job = Denoising(out, config.resolved(), choose_device(device))
    if config.method == "ngm" or Manifest(out, {}, "denoise").done(name, job.key(name), path):
        return
    volume, normalize = job.load(name, path)
    with locked(out / f"denoised-{name}"):
        job.parts(name).begin(job.identity(name, path))
    slabs = list(_slabs(len(volume.data), planes_of(volume.shape, config.slab)))
    low, high = (len(slabs) * i // share[1] for i in (share[0], share[0] + 1))
    for slab in slabs[low:high]:
        _bilateral_slab(volume.data, normalize, job.config, job.device, job.parts(name), slab)


def denoise_into(
    out: NDArray[Any],
    volume: Volume,
    normalize: Normalization,
    config: DenoiseConfig,
    device: str = "cpu",
    on_progress: ProgressCallback = no_progress,
    parts: UnfinishedParts = NO_PARTS,
) -> float:
    """Filter a volume in bounded memory.

    Parameters
    ----------
    out : (z, y, x) float32
        Output in gray values of the volume; may be a memory map.
    volume
        Read slab by slab.
    normalize
        Normalization of the volume to mean 0 and standard deviation 1.
    parts
        Filtered slabs of an interrupted run, which are used again.

    Returns
    -------
    float
        Standard deviation of the removed part over that of the volume.
    """
    filtered = _low_pass if config.method == "ngm" else _bilateral
    filtered(out, volume.data, normalize, config, device, on_progress, parts)
    squares = 0.0
    for low, high in _slabs(len(out), planes_of(out.shape, config.slab)):
        removed = normalize(volume.data[low:high]) - normalize(out[low:high])
        squares += float(np.square(removed, dtype=np.float64).sum())
    return float(np.sqrt(squares / out.size))


def _bilateral(
    out: NDArray[Any],
    data: Voxels,
    normalize: Normalization,
    config: DenoiseConfig,
    device: str,
    on_progress: ProgressCallback,
    parts: UnfinishedParts,
) -> None:
    """Filter slab by slab, each with the margin that the filter needs."""
    for low, high in _slabs(len(data), planes_of(data.shape, config.slab)):
        out[low:high] = _bilateral_slab(data, normalize, config, device, parts, (low, high))
        on_progress("denoising", high / len(data))


def _bilateral_slab(
    data: Voxels,
    normalize: Normalization,
    config: DenoiseConfig,
    device: str,
    parts: UnfinishedParts,
    slab: tuple[int, int],
) -> NDArray[np.float32]:
    """Filtered planes, which are kept in the parts."""
    from cryovox.filters.bilateral import HALO, bilateral

    (low, high), by = slab, config.feature

    def filtered() -> NDArray[np.float32]:
        first = max(0, low - HALO[by])
        images = _tensor(normalize(data[first : high + HALO[by]]), device)
        values = bilateral(images[None, None], sigma_d=config.sigma_d, sigma_r=config.sigma_r, by=by)
        return _gray_values(values[0, 0, low - first : high - first], normalize)

    return parts.array(f"planes-{low}-{high}", filtered)


def _low_pass(
    out: NDArray[Any],
    data: Voxels,
    normalize: Normalization,
    config: DenoiseConfig,
    device: str,
    on_progress: ProgressCallback,
    parts: UnfinishedParts,
) -> None:
    """Filter along y and x, plane by plane, then along z; the filter is separable."""
    import torch

    from cryovox.filters.noise import low_frequency_weights

    depth, height, width = data.shape
    z, y, x = (low_frequency_weights(n, config.cube)[:, None].float().to(device) for n in data.shape)
    z, x = z[: depth // 2 + 1, :, None], x[: width // 2 + 1, 0]

    def planes(low: int, high: int) -> NDArray[np.float32]:
        spectra = torch.fft.rfft2(_tensor(normalize(data[low:high]), device))
        return torch.fft.irfft2(spectra * (y * x), s=(height, width)).cpu().numpy()

    def columns(low: int, high: int) -> NDArray[np.float32]:
        spectra = torch.fft.rfft(_tensor(out[:, low:high], device), dim=0)
        return _gray_values(torch.fft.irfft(spectra * z, n=depth, dim=0), normalize)

    for low, high in _slabs(depth, planes_of(data.shape, config.slab)):
        out[low:high] = parts.array(f"planes-{low}-{high}", partial(planes, low, high))
        on_progress("denoising", high / depth / 2)
    for low, high in _slabs(height, planes_of((height, depth, width), config.slab)):
        out[:, low:high] = parts.array(f"columns-{low}-{high}", partial(columns, low, high))
        on_progress("denoising", (1 + high / height) / 2)


def planes_of(shape: tuple[int, ...], option: int | None) -> int:
    """Planes of a slab of a volume (z, y, x)."""
    return option or max(8, SLAB_VOXELS // (shape[1] * shape[2]))


def _slabs(size: int, planes: int) -> Iterator[tuple[int, int]]:
    for low in range(0, size, planes):
        yield low, min(size, low + planes)


def _tensor(values: NDArray[Any], device: str) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


def _gray_values(filtered: Tensor, normalize: Normalization) -> NDArray[np.float32]:
    values: NDArray[np.float32] = filtered.cpu().numpy()
    return values * np.float32(normalize.std) + np.float32(normalize.mean)
