"""Score every voxel of tomograms with a model, from disk to disk."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import writable_folder
from cryovox.core.config import Contrast
from cryovox.core.errors import RequestError
from cryovox.core.intensity import MIN_CERTAINTY
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.core.volume import ScoreMap
from cryovox.data.augment import HALF_TURNS, WEDGE_SYMMETRIES
from cryovox.data.cubes import detect_set_contrast, standardize
from cryovox.formats import is_volume, scores, stem, subtomograms
from cryovox.formats.subtomograms import Subtomograms
from cryovox.inference.cubes import classes, score_cubes
from cryovox.inference.label_map import paint_balls, write_label_map
from cryovox.inference.tiling import plan
from cryovox.models.card import Card, model_file
from cryovox.picking import PickConfig, pick
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.inputs import (
    Prepared,
    check_voxel_size,
    expand,
    mask_file,
    mask_of,
    prepare,
    set_notes,
)
from cryovox.workflows.manifest import Manifest, sha256

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


def label_set(
    model: Path | tuple[nn.Module, Card],
    subvolumes: Subtomograms,
    device: Device = "auto",
    config: SegmentConfig | None = None,
    *,
    on_progress: ProgressCallback = no_progress,
) -> NDArray[np.uint8]:
    """Label the voxels of a set.

    Parameters
    ----------
    model
        Model file, or network and card.
    subvolumes
        Its masks are not looked at.
    config
        Contrast and views to average; a set is normalised cube by cube.
    on_progress
        Receives the share of the subtomograms that are done.

    Returns
    -------
    (n, z, y, x) uint8
        Labels of the model's species: the likeliest for masks, balls around picks for heatmaps.
    """
    from cryovox.models.checkpoint import load_model

    network, card = load_model(model) if isinstance(model, Path) else model
    config = config or SegmentConfig()
    contrast = resolve_contrast(subvolumes, card, config.contrast)
    network = network.to(choose_device(device)).eval()
    tiles = tile_plan(card, config)
    out = np.zeros((len(subvolumes), *subvolumes.shape), np.uint8)
    values = np.array([0, *(s.label for s in card.species)], np.uint8)
    count = len(subvolumes)
    for batch, batch_scores in score_cubes(network, _Normalised(subvolumes, contrast), tiles):
        if card.kind == "mask":
            out[batch] = values[classes(batch_scores)]
        else:
            out[batch] = [_balls(one, subvolumes, card) for one in batch_scores]
        on_progress("subtomograms", batch.stop / count, f"{batch.stop} of {count} subtomograms")
    return out


class _Normalised:
    """The images as the network wants them, read when they are asked for."""

    def __init__(self, subvolumes: Subtomograms, contrast: Contrast) -> None:
        self.subvolumes, self.contrast, self.shape = (
            subvolumes,
            contrast,
            (len(subvolumes), *subvolumes.shape),
        )

    def __getitem__(self, which: slice) -> NDArray[np.float32]:
        assert self.subvolumes.images is not None
        return standardize(self.subvolumes.images[which], self.contrast)


def _balls(scores: NDArray[np.float32], subvolumes: Subtomograms, card: Card) -> NDArray[np.uint8]:
    stride, voxel = card.output_stride, subvolumes.voxel_size
    offset, thresholds = voxel * (stride - 1) / 2, card.thresholds
    shown = ScoreMap(scores, voxel * stride, card.species, offset, "heatmap", thresholds)
    return paint_balls(pick(shown, PickConfig(border=0.0)), card.species, voxel, subvolumes.shape)


def resolve_contrast(subvolumes: Subtomograms, card: Card, wanted: Contrast) -> Contrast:
    """What the user says; else what the set says or clearly shows; else what the model was trained on."""
    if wanted != "auto":
        return wanted
    seen, certainty = detect_set_contrast(replace(subvolumes, masks=None))
    return seen if certainty >= MIN_CERTAINTY else card.contrast


def segment_files(
    inputs: list[Path],
    model: Path,
    out: Path,
    config: SegmentConfig | None = None,
    *,
    device: Device = "auto",
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, list[str]], dict[str, Exception]]:
    """Segment tomograms and sets; what an earlier run finished with the same settings is not redone.

    A set gives `labels/NAME.zarr`: the same table with the masks that the model finds.

    Returns
    -------
    names, failures
        Names of the "tomograms" and "subtomogram sets" that are done, and what went wrong.
    """
    model = model_file(model)
    files = expand(inputs, lambda path: is_volume(path) or subtomograms.is_set(path))
    sets = {name: path for name, path in files.items() if subtomograms.is_set(path)}
    others = [path for path in files.values() if path not in sets.values()]
    if not overwrite:
        Manifest(out, {}).check_free(files)
    done, failures = dict[str, list[str]](), dict[str, Exception]()
    if others:
        try:
            done["tomograms"], failures = segment(
                others, model, out, config, device=device, overwrite=overwrite, on_progress=on_progress
            )
        except Exception as error:
            if not sets:
                raise
            failures[stem(others[0])] = error
    if sets:
        if config is not None and config.mask is not None:
            message = f"goes with tomograms, and {next(iter(sets.values()))} is a subtomogram set"
            raise RequestError("--mask", message, "leave --mask out")
        run = _Sets(model, out, config or SegmentConfig(), choose_device(device), overwrite, on_progress)
        finished = list[str]()
        if len(files) == 1:  # refused before the folder is made
            run.opened(*sets.values())
        writable_folder(out)

        def attempt(name: str) -> None:
            try:
                run.one(name, sets[name])
                finished.append(name)
            except Exception as error:
                if len(files) == 1:
                    raise
                failures[name] = error

        run.manifest.share(sets, attempt)
        done["subtomogram sets"] = [name for name in sets if name in finished]
    return done, failures


class _Sets:
    """What is the same for all sets."""

    def __init__(
        self,
        model: Path,
        out: Path,
        config: SegmentConfig,
        device: str,
        overwrite: bool,
        on_progress: ProgressCallback,
    ) -> None:
        from cryovox.models.checkpoint import load_model

        self.network, self.card = load_model(model)
        self.out, self.config, self.device = out, config, device
        self.overwrite, self.on_progress = overwrite, on_progress
        settings = config.model_dump(mode="json", exclude={"batch", "slab_rows"})
        self.key = {"model_sha256": sha256(model), "settings": settings}
        facts = {"command": "segment", "model": str(model), "model_sha256": self.key["model_sha256"]}
        self.manifest = Manifest(out, {**facts, "device": device, "config": settings})

    def one(self, name: str, path: Path) -> None:
        """Label one set, unless an earlier run has done so."""
        if not self.overwrite and self.manifest.done(name, self.key, path):
            return
        began, found = time.monotonic(), self.opened(path)
        contrast = resolve_contrast(found, self.card, self.config.contrast)
        settled = self.config.model_copy(update={"contrast": contrast})
        masks = label_set(
            (self.network, self.card),
            found,
            self.device,  # type: ignore[arg-type]
            settled,
            on_progress=renamed(self.on_progress, name),
        )
        target = self.out / "labels" / f"{name}.zarr"
        labelled = replace(found, images=None, masks=masks, species=self.card.species, contrast=contrast)
        subtomograms.write(target, labelled)
        notes = set_notes(found.images, self.card, path)
        spent = time.monotonic() - began
        self.manifest.note(name, self.key, {"labels": target}, spent, path, contrast=contrast, notes=notes)

    def opened(self, path: Path) -> Subtomograms:
        """Open a set and make sure that the model can be asked about it."""
        return _fitting(path, self.card, self.config)


def _fitting(path: Path, card: Card, config: SegmentConfig) -> Subtomograms:
    """Open a set and make sure that the model can be asked about it."""
    found = subtomograms.read(path)
    if found.images is None:
        raise RequestError(path, "holds labels and no images", "name the set with the subtomograms")
    if config.voxel_size is not None:
        found = replace(found, voxel_size=config.voxel_size)
    check_voxel_size(path, found.voxel_size, card)
    return found
