"""Segment tomograms and subtomogram sets with a model, from disk to disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Volume
from cryovox.formats import is_volume, scores, subtomograms
from cryovox.formats.subtomograms import Subtomograms
from cryovox.formats.unfinished_scores import UnfinishedScores
from cryovox.inference.label_map import write_label_map, write_masks, write_threshold_masks
from cryovox.models.card import Card, model_file
from cryovox.workflows.batch import Failures, Job, Result, run_batch
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.inputs import (
    Prepared,
    check_voxel_size,
    expand,
    mask_file,
    prepare,
    read_search_mask,
    set_domain_notes,
)
from cryovox.workflows.label_sets import label, resolve_contrast
from cryovox.workflows.manifest import Manifest, sha256
from cryovox.workflows.memory import AFTERWARDS, MASK_PICKING, MAX_NOISE, NOISE
from cryovox.workflows.score_tiles import device_of, limited_tiles, network_for, tile_plan
from cryovox.workflows.score_writing import SCORES_OF_SURROUNDINGS, SURROUNDINGS, SlabWriting

if TYPE_CHECKING:
    from torch import nn

    from cryovox.inference.stream import TilePlan

TOMOGRAMS, SETS = "tomograms", "subtomogram sets"
SEGMENTATIONS = "segmentations"
"""Folder of the masks of membranes and other extended structures."""
Mask = NDArray[np.bool_]


def segment_files(
    inputs: list[Path],
    model: Path,
    out: Path,
    config: SegmentConfig | None = None,
    *,
    device: Device = "auto",
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, list[str]], Failures]:
    """Segment tomograms and subtomogram sets, each as :func:`segment` or :func:`segment_sets` does.

    Returns
    -------
    names, failures
        Names of the segmented "tomograms" and "subtomogram sets", and what went wrong with the others.
    """
    files = segmentable(inputs)
    if not overwrite:
        Manifest(out, {}).check_free(files)
    sets = {name: path for name, path in files.items() if subtomograms.is_set(path)}
    tomograms = {name: path for name, path in files.items() if name not in sets}
    names: dict[str, list[str]] = {}
    failures: Failures = {}
    for kind, run, paths in ((TOMOGRAMS, segment, tomograms), (SETS, segment_sets, sets)):
        if paths:
            names[kind], failed = run(
                [*paths.values()], model, out, config,
                device=device, overwrite=overwrite, collect=len(files) > 1, on_progress=on_progress,
            )  # fmt: skip
            failures |= failed
    return names, failures


def segmentable(inputs: list[Path]) -> dict[str, Path]:
    """Tomograms and subtomogram sets behind paths, by name."""
    return expand(inputs, lambda path: is_volume(path) or subtomograms.is_set(path))


def segment(  # noqa: PLR0913 (the options of a command)
    tomograms: list[Path],
    model: Path,
    out: Path,
    config: SegmentConfig | None = None,
    *,
    device: Device = "auto",
    overwrite: bool = False,
    collect: bool | None = None,
    noise: float | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[list[str], Failures]:
    """Segment tomograms; results of an earlier run with the same settings are kept.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    model
        Model file.
    out
        Output folder: `scores/NAME.zarr`, `labels/NAME.mrc`, `manifest.json`.
    collect
        Collect failures and go on; by default where there are several tomograms.
    noise
        Where picking comes next, whose memory then counts in the limit: fraction of a tomogram that is also
        searched in noise.
    on_progress
        Receives the progress; see :class:`cryovox.core.progress.ProgressCallback`.

    Returns
    -------
    names, failures
        Names of the segmented tomograms, and what went wrong with the others.
    """
    files = expand(tomograms)
    job = load_job(model, out, config, device, noise)
    return _run(job, files, overwrite=overwrite, collect=collect, on_progress=on_progress)


def segment_sets(
    sets: list[Path],
    model: Path,
    out: Path,
    config: SegmentConfig | None = None,
    *,
    device: Device = "auto",
    overwrite: bool = False,
    collect: bool | None = None,
    on_progress: ProgressCallback = no_progress,
) -> tuple[list[str], Failures]:
    """Segment subtomogram sets; parameters and results are those of :func:`segment`.

    `labels/NAME.zarr` is the set with the predicted masks in place of its images.
    """
    files = expand(sets, subtomograms.is_set)
    for option in ("mask", "surroundings"):
        if config is not None and getattr(config, option):
            message = f"goes with tomograms, and {next(iter(files.values()))} is a subtomogram set"
            raise RequestError(f"--{option}", message, f"leave --{option} out")
    job = _load(_SegmentSet, model, out, config, device)
    return _run(job, files, overwrite=overwrite, collect=collect, on_progress=on_progress)


@dataclass(frozen=True, eq=False)
class _Segment(Job):
    """A network on its device, with what the manifest records of it."""

    out: Path
    config: SegmentConfig
    network: nn.Module
    card: Card
    facts: dict[str, Any]
    noise: float | None = None

    def key(self, name: str) -> dict[str, Any]:
        excluded = {*self.config.without_effect, "mask", *_absent(self.config)}
        settings = self.config.model_dump(mode="json", exclude=excluded)
        key = {"model_sha256": self.facts["model_sha256"], "settings": settings}
        if self.config.mask is not None:
            key["mask_sha256"] = sha256(mask_file(self.config.mask, name))
        return key


def _absent(config: SegmentConfig) -> set[str]:
    """Settings that the keys of earlier versions lack, where they have their defaults."""
    defaults = SegmentConfig()
    return {name for name in ("surroundings", "backend") if getattr(config, name) == getattr(defaults, name)}


def _load(
    kind: type[_Segment], model: Path, out: Path, config: SegmentConfig | None, device: Device
) -> _Segment:
    from cryovox.models.checkpoint import load_model

    model, accelerator = model_file(model), choose_device(device)
    config = config or SegmentConfig()
    network, card = load_model(model)
    facts = {"command": "segment", "model": str(model), "model_sha256": sha256(model), "device": accelerator}
    network = network.to(accelerator)
    config = _with_precision(config, network, card, facts["model_sha256"])
    return kind(out, config, network_for(config, network), card, facts)


def _with_precision(config: SegmentConfig, network: nn.Module, card: Card, model: str) -> SegmentConfig:
    """The settings with the measured precision in place of `auto`."""
    if config.precision != "auto":
        return config
    from cryovox.inference.precision import cached_comparison

    comparison = cached_comparison(network, tile_plan(card, config, device_of(network)), model)
    return config.model_copy(update={"precision": "bf16" if comparison.bf16 else "fp32"})


def load_job(
    model: Path, out: Path, config: SegmentConfig | None, device: Device, noise: float | None = None
) -> _SegmentTomogram:
    """Network on its device and settings for tomograms, which are picked next or not."""
    from cryovox.models.surroundings import with_surroundings

    if config is not None and config.surroundings and config.backend != "torch":
        message = "is computed by torch only"
        raise RequestError("--surroundings", message, "leave --surroundings or --backend out")
    job = _load(_SegmentTomogram, model, out, config, device)
    network = job.network
    if job.config.surroundings:
        network = with_surroundings(network, job.card, model)
    return _SegmentTomogram(job.out, job.config, network, job.card, job.facts, noise)


def _run(job: _Segment, files: dict[str, Path], **options: Any) -> tuple[list[str], Failures]:
    manifest = Manifest(job.out, {**job.facts, "config": job.config.model_dump(mode="json")})
    entries, failures = run_batch(job, files, manifest, **options)
    return list(entries), failures


class _SegmentTomogram(_Segment):
    """Write the score map and the label map of a tomogram."""

    def load(self, name: str, path: Path) -> tuple[Prepared, Mask | None, TilePlan]:
        tomogram = prepare(path, self.card, self.config.voxel_size, self.config.contrast, resample=True)
        mask = read_search_mask(self.config.mask, name, tomogram.original.shape)
        return tomogram, mask, self.tiles(tomogram.volume)

    def tiles(self, volume: Volume) -> TilePlan:
        """Tiles, batched so that limits of memory are kept."""
        return limited_tiles(self.network, self.card, self.config, volume, self.out, self.afterwards(volume))

    def afterwards(self, volume: Volume) -> int:
        """Bytes of memory that the steps after scoring take."""
        if self.noise is None:
            return AFTERWARDS
        masks = MASK_PICKING * prod(n // self.card.output_stride for n in volume.shape)
        noise = NOISE * round(min(self.noise * volume.data.size, MAX_NOISE))
        return AFTERWARDS + max(noise, masks if self.card.kind == "mask" else 0)

    def process(
        self, name: str, loaded: tuple[Prepared, Mask | None, TilePlan], on_progress: ProgressCallback
    ) -> Result:
        tomogram, mask, _ = loaded
        score_file, label_file = self.out / "scores" / f"{name}.zarr", self.out / "labels" / f"{name}.mrc"
        self.slabs(name, loaded).write_all(on_progress)
        write_label_map(scores.read(score_file), tomogram.original, label_file, mask=mask)
        outputs = {"scores": score_file, "labels": label_file}
        outputs |= write_masks(label_file, self.out / SEGMENTATIONS, self.card.species)
        if self.config.surroundings:
            surroundings, folder = self.out / SURROUNDINGS / score_file.name, self.out / SEGMENTATIONS
            masks = write_threshold_masks(scores.read(surroundings), tomogram.original, folder, name, mask)
            outputs |= {SCORES_OF_SURROUNDINGS: surroundings, **masks}
        facts: dict[str, Any] = {
            "contrast": tomogram.contrast,
            "voxel_size": tomogram.original.voxel_size,
            "notes": list(tomogram.notes),
        }
        if self.config.mask is not None:
            facts["mask"] = str(mask_file(self.config.mask, name).resolve())
        return Result(outputs, facts)

    def slabs(self, name: str, loaded: tuple[Prepared, Mask | None, TilePlan]) -> SlabWriting:
        """How the scores are written, slab by slab."""
        tomogram, mask, tiles = loaded
        identity = self.identity(name, tomogram.path)
        surroundings = self.card.surroundings if self.config.surroundings else None
        return SlabWriting(
            self.out, name, identity, self.network, tomogram, self.card, tiles, mask, surroundings
        )

    def forget(self, name: str) -> None:
        for folder in ("scores", SURROUNDINGS):
            UnfinishedScores(self.out / folder / f"{name}.zarr").discard()


class _SegmentSet(_Segment):
    """Write the predicted masks of a subtomogram set."""

    def load(self, name: str, path: Path) -> tuple[Path, Subtomograms]:
        subvolumes = subtomograms.read(path)
        if subvolumes.images is None:
            raise RequestError(path, "holds labels and no images", "name the set with the subtomograms")
        if self.config.voxel_size is not None:
            subvolumes = replace(subvolumes, voxel_size=self.config.voxel_size)
        check_voxel_size(path, subvolumes.voxel_size, self.card)
        if self.card.whitened:
            message = "is a subtomogram set, and the model whitens whole tomograms"
            raise RequestError(
                path, message, "give the tomograms, or a model that was trained on subtomograms"
            )
        return path, subvolumes

    def process(self, name: str, loaded: tuple[Path, Subtomograms], on_progress: ProgressCallback) -> Result:
        path, subvolumes = loaded
        contrast = resolve_contrast(subvolumes, self.card, self.config.contrast)
        masks = label(self.network, self.card, subvolumes, contrast, self.config, on_progress)
        target = self.out / "labels" / f"{name}.zarr"
        labeled = replace(subvolumes, images=None, masks=masks, species=self.card.species, contrast=contrast)
        subtomograms.write(target, labeled)
        notes = set_domain_notes(subvolumes.images, self.card, path)
        return Result({"labels": target}, {"contrast": contrast, "notes": notes})
