"""Limits of memory: how tiles are batched within them, and what a run is predicted to take."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cryovox.core.errors import RequestError
from cryovox.core.sizes import n_bytes, size_text
from cryovox.core.volume import Voxels

if TYPE_CHECKING:
    from torch import nn

    from cryovox.inference.memory import Footprint
    from cryovox.inference.stream import TilePlan

AFTERWARDS = 300_000_000
"""Bytes for label map, picking and report, which come after scoring."""
MASK_PICKING = 8
"""Bytes per voxel of a mask while it is picked: best species, its score, number of the region."""
NOISE, MAX_NOISE = 40, 1 << 26
"""Bytes per voxel of the noise control of `find`, with its Fourier transform, and its most voxels."""
COMPILER = 400_000_000
"""Bytes that OpenVINO takes to compile a network, with its libraries."""
CUDA_CONTEXT = 600_000_000
"""Bytes of a GPU that its driver and libraries take."""


@dataclass(frozen=True)
class Limits:
    """Limits of memory.

    Attributes
    ----------
    ram, vram
        Bytes of the process and of the GPU; no limit where None.
    """

    ram: int | None = None
    vram: int | None = None

    @classmethod
    def of(cls, ram: str | None, vram: str | None) -> Limits:
        """Limits from amounts such as 4G."""
        return cls(None if ram is None else n_bytes(ram), None if vram is None else n_bytes(vram))


@dataclass(frozen=True)
class Need:
    """Predicted peaks of memory in bytes.

    Attributes
    ----------
    ram
        Of the process, with what it holds already.
    vram
        Of the GPU; 0 without one.
    """

    ram: int
    vram: int = 0


def resident() -> int:
    """Bytes of memory that this process holds."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def need(network: nn.Module, footprint: Footprint, tiles: TilePlan, afterwards: int = AFTERWARDS) -> Need:
    """Peaks of memory of scoring a volume.

    Parameters
    ----------
    footprint
        From :func:`cryovox.inference.memory.footprint`.
    tiles
        Batch, and where the sums of the scores are kept.
    afterwards
        Bytes of what follows.
    """
    on_disk, held = tiles.scratch is not None, resident()
    held += COMPILER if getattr(network, "is_compiled", False) else 0
    if next(network.parameters()).device.type == "cpu":
        return Need(held + max(footprint.total(tiles.batch, on_disk), afterwards))
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    vram = CUDA_CONTEXT + weights + tiles.batch * footprint.tile
    if tiles.on_host or on_disk:
        return Need(held + max(footprint.total(0, on_disk), afterwards), vram)
    return Need(held + max(footprint.beside_gpu(), afterwards), vram + footprint.on_device)


def enforce(limits: Limits, device: str) -> None:
    """Let torch run out of memory at the limit of a GPU, so that batches are halved instead of exceeding it.

    A prediction does not know the work space that convolutions choose.
    """
    if limits.vram is None or device != "cuda":
        return
    import torch

    total = torch.cuda.get_device_properties(0).total_memory
    share = max(0, limits.vram - CUDA_CONTEXT) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))


def fit(
    network: nn.Module,
    data: Voxels,
    channels: int,
    tiles: TilePlan,
    limits: Limits,
    scratch: Path,
    afterwards: int | None = AFTERWARDS,
) -> TilePlan:
    """Choose batch, rows and place of the sums so that scoring keeps within limits; tile and overlap stay.

    Parameters
    ----------
    data : (z, y, x)
        The volume.
    channels
        Species.
    tiles
        As wished; returned unchanged where there is no limit or it suffices.
    scratch
        Folder for the sums where memory is too small for them; it need not exist yet.
    afterwards
        Bytes of the steps after scoring. None where this is one of them: then the plan that takes least
        memory is the last resort, since what the process holds is partly free.

    Raises
    ------
    RequestError
        If no other choice keeps within the limits; names the least amount that does.
    """
    from cryovox.inference.memory import footprint

    if limits == Limits():
        return tiles
    needs: list[tuple[TilePlan, Need]] = []
    on_gpu = next(network.parameters()).device.type != "cpu"
    for choice in _choices(tiles, scratch, on_gpu):
        of_choice = need(network, footprint(network, data, channels, choice), choice, afterwards or 0)
        needs.append((choice, of_choice))
        if _is_within(of_choice, limits):
            return choice
    if afterwards is None:
        return needs[-1][0]
    least_ram, least_vram = (min(getattr(n, key) for _, n in needs) for key in ("ram", "vram"))
    if limits.vram is not None and least_vram > limits.vram:
        raise _too_small("--max-vram", limits.vram, least_vram)
    assert limits.ram is not None
    raise _too_small("--max-ram", limits.ram, least_ram)


def _choices(tiles: TilePlan, scratch: Path, on_gpu: bool) -> list[TilePlan]:
    """Plans from the wished one to the one that takes least memory."""
    batches = [b for b in (tiles.batch, 64, 32, 16, 8, 4, 2, 1) if b <= tiles.batch]
    plans = [tiles, *(replace(tiles, rows=1, batch=batch) for batch in dict.fromkeys(batches))]
    on_disk = [replace(plan, scratch=scratch) for plan in plans[1:]]
    return plans + [replace(plan, on_host=True) for plan in plans[1:] if on_gpu] + on_disk


def _is_within(need: Need, limits: Limits) -> bool:
    return (limits.ram is None or need.ram <= limits.ram) and (
        limits.vram is None or need.vram <= limits.vram
    )


def _too_small(option: str, limit: int, least: int) -> RequestError:
    message = f"{size_text(limit)} is too little for this model and tomogram, which need {size_text(least)}"
    return RequestError(option, message, f"use {option} {size_text(least)} or more")
