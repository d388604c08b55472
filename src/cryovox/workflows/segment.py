"""Score every voxel of tomograms with a model, from disk to disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import writable_folder
from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.core.volume import LabelMap, ScoreMap, Volume
from cryovox.data.augment import HALF_TURNS, WEDGE_SYMMETRIES
from cryovox.data.targets import ball_labels
from cryovox.formats import mrc, scores, write_labels
from cryovox.inference.tiling import plan
from cryovox.models.card import Card, model_file
from cryovox.picking import PickConfig, pick
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.inputs import Prepared, expand, prepare
from cryovox.workflows.manifest import Manifest, sha256
from cryovox.workflows.masks import mask_file, mask_of

if TYPE_CHECKING:
    from torch import nn

    from cryovox.inference.stream import TilePlan

VIEWS: dict[int, tuple[tuple[int, ...], ...]] = {1: ((),), 4: HALF_TURNS, 8: WEDGE_SYMMETRIES}


def segment(
    tomograms: list[Path],
    model: Path,
    out: Path,
    config: SegmentConfig | None = None,
    *,
    device: Device = "auto",
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> tuple[list[str], dict[str, Exception]]:
    """Score tomograms; what an earlier run finished with the same settings is not redone.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    model
        Model file.
    out
        Folder: `scores/NAME.zarr`, `labels/NAME.mrc`, `manifest.json`.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.

    Returns
    -------
    names, failures
        Names of the tomograms that are done, and what went wrong with the others.
    """
    from cryovox.models.checkpoint import load_model

    config, model = config or SegmentConfig(), model_file(model)
    files = expand(tomograms)
    accelerator = choose_device(device)
    network, card = load_model(model)
    facts = {"command": "segment", "model": str(model), "model_sha256": sha256(model), "device": accelerator}
    manifest = Manifest(out, {**facts, "config": config.model_dump(mode="json")})
    if not overwrite:
        manifest.check_free(files)
    run = _Run(network.to(accelerator), card, out, config, manifest, overwrite, on_progress)
    ready: dict[str, Prepared] = {}
    if len(files) == 1 and not run.done(*next(iter(files.items()))):  # refused before the folder is made
        ready = {n: prepare(p, card, config.voxel_size, config.contrast) for n, p in files.items()}
        for name, prepared in ready.items():
            mask_of(config.mask, name, prepared.volume.shape)
    writable_folder(out)
    done: list[str] = []
    failures: dict[str, Exception] = {}

    def attempt(name: str) -> None:
        try:
            run.one(name, files[name], ready.get(name))
            done.append(name)
        except Exception as error:
            if len(files) == 1:
                raise
            failures[name] = error

    manifest.share(files, attempt)
    return [name for name in files if name in done], failures


@dataclass(frozen=True, eq=False)
class _Run:
    """What is the same for all tomograms."""

    network: nn.Module
    card: Card
    out: Path
    config: SegmentConfig
    manifest: Manifest
    overwrite: bool
    on_progress: ProgressCallback

    def key(self, name: str) -> dict[str, Any]:
        """What the outputs depend on, besides the tomogram itself."""
        settings = self.config.model_dump(mode="json", exclude={"batch", "slab_rows", "mask"})
        key = {"model_sha256": self.manifest.facts["model_sha256"], "settings": settings}
        if self.config.mask is not None:
            key["mask_sha256"] = sha256(mask_file(self.config.mask, name))
        return key

    def done(self, name: str, path: Path) -> bool:
        """Whether an earlier run has scored a tomogram."""
        return not self.overwrite and self.manifest.done(name, self.key(name), path)

    def one(self, name: str, path: Path, ready: Prepared | None) -> None:
        """Score one tomogram, unless an earlier run has done so."""
        if self.done(name, path):
            return
        began = time.monotonic()
        given = ready or prepare(path, self.card, self.config.voxel_size, self.config.contrast)
        mask = mask_of(self.config.mask, name, given.volume.shape)
        outputs = {
            "scores": self.out / "scores" / f"{name}.zarr",
            "labels": self.out / "labels" / f"{name}.mrc",
        }
        tiles = tile_plan(self.card, self.config)
        write_scores(
            self.network,
            given,
            self.card,
            tiles,
            outputs["scores"],
            renamed(self.on_progress, name),
            mask,
        )
        write_label_map(scores.read(outputs["scores"]), given.volume, outputs["labels"], mask=mask)
        facts = {
            "contrast": given.contrast,
            "voxel_size": given.volume.voxel_size,
            "notes": list(given.notes),
        }
        self.manifest.note(name, self.key(name), outputs, time.monotonic() - began, path, **facts)


def tile_plan(card: Card, config: SegmentConfig) -> TilePlan:
    """Tile and overlap from the model, batch and slab from the machine."""
    from cryovox.inference.stream import TilePlan

    overlap = card.overlap if config.overlap is None else config.overlap
    return TilePlan(
        card.patch,
        overlap,
        card.output_stride,
        card.activation,
        config.batch,
        config.slab_rows,
        VIEWS[config.tta],
        config.tilt_axis,
    )


def write_scores(
    network: nn.Module,
    given: Prepared,
    card: Card,
    tiles: TilePlan,
    path: Path,
    on_progress: ProgressCallback = no_progress,
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """Stream a tomogram through a network into a score map on disk; what lies far outside a mask scores 0."""
    from cryovox.inference.stream import SearchMask, stream

    volume = given.volume
    # a particle that the mask cuts is scored whole, so a mask moves no pick
    widest = max(s.radius for s in card.species) / volume.voxel_size
    region = None if mask is None else SearchMask(mask, int(np.ceil(2 * widest)) + 2 * tiles.stride)
    sides = [plan(n, tiles.tile, tiles.overlap, tiles.stride).out_size for n in volume.shape]
    with scores.create(
        path,
        (len(card.species), sides[0], sides[1], sides[2]),
        volume.voxel_size * tiles.stride,
        card.species,
        offset=volume.voxel_size * (tiles.stride - 1) / 2,
        kind=card.kind,
        thresholds=card.thresholds,
        origin=volume.origin,
        nstart=volume.nstart,
        tomogram=(volume.shape, volume.voxel_size),
    ) as writer:
        stream(network, volume.data, given.normalise, tiles, writer.write, on_progress, region)


def write_label_map(
    found: ScoreMap,
    volume: Volume,
    path: Path,
    picks: Particles | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """Write the species of every voxel: the likeliest for masks, balls around picks for heatmaps.

    Parameters
    ----------
    picks
        Of a heatmap; by default what it gives with the default settings.
    mask : (z, y, x)
        0 where there is to be no label.
    """
    if found.kind == "heatmap":
        picks = pick(found, PickConfig(border=0.0), mask) if picks is None else picks
        balls = paint_balls(picks, found.species, volume.voxel_size, volume.shape)
        if mask is not None:
            balls[~mask] = 0
        write_labels(path, LabelMap(balls, volume.voxel_size, found.species, volume.origin, volume.nstart))
        return
    values = np.array([0, *(s.label for s in found.species)], dtype=np.uint8)
    frame = volume.shape, _label_type(found.species), volume.voxel_size, volume.origin
    with mrc.create(path, *frame, volume.nstart) as labels:
        for z in range(0, volume.shape[0], 32):
            block: NDArray[Any] = np.asarray(found.data[:, z : z + 32])
            background = 1 - block.sum(axis=0, keepdims=True)
            labels[z : z + 32] = values[np.concatenate([background, block]).argmax(axis=0)]
            if mask is not None:
                labels[z : z + 32][~mask[z : z + 32]] = 0


def _label_type(species: tuple[Species, ...]) -> str:
    return "int8" if max(s.label for s in species) <= 127 else "uint16"


def paint_balls(
    picks: Particles, species: tuple[Species, ...], voxel_size: float, shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Paint a ball with the radius and the label of its species around every pick."""
    of = {s.name: s for s in species}
    kinds = [of[name] for name in picks.species]
    radii = [s.radius / voxel_size for s in kinds]
    return ball_labels(picks.positions / voxel_size, [s.label for s in kinds], radii, shape)
