"""Filter noise out of tomograms, from disk to disk and slab by slab."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import writable_folder
from cryovox.core.errors import RequestError
from cryovox.core.intensity import Normalisation
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Volume, Voxels
from cryovox.formats import mrc, read_volume
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.inputs import expand, refuse_wrapped_bytes, sound_moments
from cryovox.workflows.manifest import Manifest

if TYPE_CHECKING:
    from torch import Tensor

Filled = Callable[[float], None]
"""Takes the share that is done."""

VOXELS = 1 << 23
"""In a slab, as far as that leaves 8 planes; a filter holds up to 70 bytes for each."""


def denoise(
    tomograms: list[Path],
    out: Path,
    config: DenoiseConfig | None = None,
    *,
    device: Device = "auto",
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, dict[str, Any]], dict[str, Exception]]:
    """Denoise tomograms; what an earlier run finished with the same settings is not redone.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    out
        Folder: `denoised/NAME.mrc`, with the grey values of the tomogram, and `manifest.json`.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.

    Returns
    -------
    done, failures
        What the manifest says of every tomogram that is done, and what went wrong with the others.
    """
    config = config or DenoiseConfig()
    files = expand(tomograms)
    accelerator = choose_device(device)
    for name, path in files.items():
        if path.resolve() == _output(out, name).resolve():
            raise RequestError(path, "would be replaced by its own result", "choose another --out")
    facts = {"command": "denoise", "device": accelerator, "config": config.model_dump(mode="json")}
    manifest = Manifest(out, facts, "denoise")
    if not overwrite:
        manifest.check_free(files)
    run = _Run(out, config, accelerator, manifest, overwrite, on_progress)
    ready: dict[str, tuple[Volume, Normalisation]] = {}
    if len(files) == 1 and not run.done(*next(iter(files.items()))):  # refused before the folder is made
        ready = {name: _open(path, config) for name, path in files.items()}
    writable_folder(out)
    failures: dict[str, Exception] = {}
    done: dict[str, dict[str, Any]] = {}

    def attempt(name: str) -> None:
        try:
            done[name] = run.one(name, files[name], ready.get(name))
        except Exception as error:
            if len(files) == 1:
                raise
            failures[name] = error

    manifest.share(files, attempt)
    return {name: done[name] for name in files if name in done}, failures


def denoise_into(
    out: NDArray[Any],
    volume: Volume,
    normalise: Normalisation,
    config: DenoiseConfig,
    device: str = "cpu",
    filled: Filled = lambda share: None,
) -> float:
    """Filter a volume in bounded memory.

    Parameters
    ----------
    out : (z, y, x) float32
        Filled, in grey values of the volume; may be a memory map.
    volume
        Only slabs of it are read.
    normalise
        To mean 0 and standard deviation 1.

    Returns
    -------
    float
        Standard deviation of what was removed over that of the volume.
    """
    if config.method == "ngm":
        _low_pass(out, volume.data, normalise, config, device, filled)
    else:
        _bilateral(out, volume.data, normalise, config, device, filled)
    squares = 0.0
    for low, high in _slabs(len(out), _planes(out.shape, config.slab)):
        given = normalise(volume.data[low:high])
        squares += float(np.square(given - normalise(out[low:high]), dtype=np.float64).sum())
    return float(np.sqrt(squares / out.size))


@dataclass(frozen=True, eq=False)
class _Run:
    """What is the same for all tomograms."""

    out: Path
    config: DenoiseConfig
    device: str
    manifest: Manifest
    overwrite: bool
    on_progress: ProgressCallback

    @property
    def key(self) -> dict[str, Any]:
        """What the output depends on, besides the tomogram."""
        return {"settings": self.config.model_dump(mode="json", exclude={"slab"})}

    def done(self, name: str, path: Path) -> bool:
        """Whether an earlier run has denoised a tomogram."""
        return not self.overwrite and self.manifest.done(name, self.key, path)

    def one(self, name: str, path: Path, ready: tuple[Volume, Normalisation] | None) -> dict[str, Any]:
        """Denoise one tomogram, unless an earlier run has done so; gives its entry in the manifest."""
        if not self.done(name, path):
            began = time.monotonic()
            volume, normalise = ready or _open(path, self.config)
            target = _output(self.out, name)
            frame = volume.shape, "f4", volume.voxel_size, volume.origin
            with mrc.create(target, *frame, volume.nstart) as out:
                removed = denoise_into(
                    out,
                    volume,
                    normalise,
                    self.config,
                    self.device,
                    lambda share: self.on_progress(name, share),
                )
            facts = {"voxel_size": volume.voxel_size, "removed": round(removed, 4)}
            self.manifest.note(name, self.key, {"denoised": target}, time.monotonic() - began, path, **facts)
        entry: dict[str, Any] = self.manifest.entries[name]
        return entry


def _output(out: Path, name: str) -> Path:
    return out / "denoised" / f"{name}.mrc"


def _open(path: Path, config: DenoiseConfig) -> tuple[Volume, Normalisation]:
    volume = read_volume(path, config.voxel_size)
    refuse_wrapped_bytes(path, volume)
    moments = sound_moments(path, volume)
    return volume, Normalisation(moments.mean, moments.std)


def _bilateral(
    out: NDArray[Any],
    data: Voxels,
    normalise: Normalisation,
    config: DenoiseConfig,
    device: str,
    filled: Filled,
) -> None:
    """Slabs with as much around them as the filter looks at."""
    from cryovox.filters.bilateral import HALO, By, bilateral

    by: By = "gradient" if config.method == "ibf" else "intensity"
    for low, high in _slabs(len(data), _planes(data.shape, config.slab)):
        first = max(0, low - HALO[by])
        slab = _tensor(normalise(data[first : high + HALO[by]]), device)
        found = bilateral(slab[None, None], sigma_d=config.sigma_d, sigma_r=config.sigma_r, by=by)
        out[low:high] = _grey(found[0, 0, low - first : high - first], normalise)
        filled(high / len(data))


def _low_pass(
    out: NDArray[Any],
    data: Voxels,
    normalise: Normalisation,
    config: DenoiseConfig,
    device: str,
    filled: Filled,
) -> None:
    """First along y and x, plane by plane, then along z: the filter is a product of three."""
    import torch

    from cryovox.filters.noise import low_frequency_weights

    depth, height, width = data.shape
    z, y, x = (low_frequency_weights(n, config.cube)[:, None].float().to(device) for n in data.shape)
    z, x = z[: depth // 2 + 1, :, None], x[: width // 2 + 1, 0]
    for low, high in _slabs(depth, _planes(data.shape, config.slab)):
        planes = torch.fft.rfft2(_tensor(normalise(data[low:high]), device))
        out[low:high] = torch.fft.irfft2(planes * (y * x), s=(height, width)).cpu().numpy()
        filled(high / depth / 2)
    for low, high in _slabs(height, _planes((height, depth, width), config.slab)):
        columns = torch.fft.rfft(_tensor(out[:, low:high], device), dim=0)
        out[:, low:high] = _grey(torch.fft.irfft(columns * z, n=depth, dim=0), normalise)
        filled((1 + high / height) / 2)


def _planes(shape: tuple[int, ...], wanted: int | None) -> int:
    return wanted or max(8, VOXELS // (shape[1] * shape[2]))


def _slabs(size: int, planes: int) -> Iterator[tuple[int, int]]:
    for low in range(0, size, planes):
        yield low, min(size, low + planes)


def _tensor(values: NDArray[Any], device: str) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


def _grey(found: Tensor, normalise: Normalisation) -> NDArray[np.float32]:
    grey: NDArray[np.float32] = found.cpu().numpy() * np.float32(normalise.std) + np.float32(normalise.mean)
    return grey
