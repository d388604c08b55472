"""Label every voxel of subtomogram sets with a model, in memory or from disk to disk."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import writable_folder
from cryovox.core.config import Contrast
from cryovox.core.errors import RequestError
from cryovox.core.intensity import SURE
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.core.volume import ScoreMap
from cryovox.data.cubes import normalised, seen_contrast
from cryovox.formats import is_volume, stem, subtomograms
from cryovox.formats.subtomograms import Subtomograms
from cryovox.inference.cubes import classes, score_cubes
from cryovox.models.card import Card, model_file
from cryovox.picking import PickConfig, pick
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.domain_check import set_notes
from cryovox.workflows.inputs import check_voxel_size, expand
from cryovox.workflows.manifest import Manifest, sha256
from cryovox.workflows.segment import paint_balls, segment, tile_plan

if TYPE_CHECKING:
    from torch import nn


def label_set(
    model: Path | tuple[nn.Module, Card],
    found: Subtomograms,
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
    found
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
    contrast = settle_contrast(found, card, config.contrast)
    network = network.to(choose_device(device)).eval()
    tiles = tile_plan(card, config)
    out = np.zeros((len(found), *found.shape), np.uint8)
    values = np.array([0, *(s.label for s in card.species)], np.uint8)
    for which, scores in score_cubes(network, _Normalised(found, contrast), tiles):
        if card.kind == "mask":
            out[which] = values[classes(scores)]
        else:
            out[which] = [_balls(one, found, card) for one in scores]
        on_progress("subtomograms", which.stop / len(found), f"{which.stop} of {len(found)} subtomograms")
    return out


class _Normalised:
    """The images as the network wants them, read when they are asked for."""

    def __init__(self, found: Subtomograms, contrast: Contrast) -> None:
        self.found, self.contrast, self.shape = found, contrast, (len(found), *found.shape)

    def __getitem__(self, which: slice) -> NDArray[np.float32]:
        assert self.found.images is not None
        return normalised(self.found.images[which], self.contrast)


def _balls(scores: NDArray[np.float32], found: Subtomograms, card: Card) -> NDArray[np.uint8]:
    stride, voxel = card.output_stride, found.voxel_size
    offset, thresholds = voxel * (stride - 1) / 2, card.thresholds
    shown = ScoreMap(scores, voxel * stride, card.species, offset, "heatmap", thresholds)
    return paint_balls(pick(shown, PickConfig(border=0.0)), card.species, voxel, found.shape)


def settle_contrast(found: Subtomograms, card: Card, wanted: Contrast) -> Contrast:
    """What the user says; else what the set says or clearly shows; else what the model was trained on."""
    if wanted != "auto":
        return wanted
    seen, certainty = seen_contrast(replace(found, masks=None))
    return seen if certainty >= SURE else card.contrast


def segment_all(
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
        contrast = settle_contrast(found, self.card, self.config.contrast)
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
