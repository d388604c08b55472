"""What a model finds in noise like that of a tomogram.

The noise is half the difference of two half tomograms where there are some. Else it is the tomogram with
random phases, with the power of the whole tomogram or with that of its background
(see :mod:`cryovox.inference.background`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing, temporary_folder, writable_folder
from cryovox.core.intensity import Normalization
from cryovox.core.particles import Particles, Species, concatenate
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.core.volume import Volume, release_pages
from cryovox.formats import read_volume, scores
from cryovox.models.card import Card, read_card
from cryovox.picking import PickConfig
from cryovox.picking.decoys import strongest
from cryovox.picking.rated import Decoys, candidates
from cryovox.picking.selection import select
from cryovox.report.doctor import sample_planes
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.contrast import Contrasts, contrast_file, contrasts, in_units_of, stored_contrasts
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.halves import Halves
from cryovox.workflows.inputs import Prepared, prepare, read_search_mask
from cryovox.workflows.memory import MAX_NOISE
from cryovox.workflows.model_grid import mask_on_grid, on_model_grid
from cryovox.workflows.score_tiles import limited_tiles, network_for, write_scores

if TYPE_CHECKING:
    from torch import nn

FOLDER = "noise"
FIRST_SHARE = 0.125
"""Part of the noise that is first searched with the power of the whole tomogram, for noise with that of the
background."""


@dataclass(frozen=True, eq=False)
class NoiseControl:
    """Runs a model on noise like that of tomograms, and keeps the scores of its candidates.

    Attributes
    ----------
    model, out
        Model file, and output folder; the scores are in `noise/NAME.json`.
    segmenting, picking
        Settings of the segmentation and of picking.
    seed
        Of the random phases.
    halves
        Half tomograms, whose difference is the noise.
    """

    model: Path
    out: Path
    segmenting: SegmentConfig
    picking: PickConfig
    seed: int = 0
    device: Device = "auto"
    halves: Halves | None = None
    _networks: dict[str, nn.Module] = field(default_factory=dict, init=False)

    @cached_property
    def card(self) -> Card:
        return read_card(self.model)

    def network(self, config: SegmentConfig) -> nn.Module:
        """The network as it is computed with these settings; loaded once."""
        from cryovox.models.checkpoint import load_model

        key = f"{config.precision}, {config.backend}"
        if key not in self._networks:
            loaded = load_model(self.model)[0].to(choose_device(self.device))
            self._networks[key] = network_for(config, loaded)
        return self._networks[key]

    def run(
        self,
        name: str,
        entry: Mapping[str, Any],
        share: float,
        on_progress: ProgressCallback = no_progress,
        pool: Particles | None = None,
    ) -> tuple[Decoys, dict[str, Any]]:
        """Candidates in noise of a tomogram, and what the manifest records of them.

        Parameters
        ----------
        entry
            Of the tomogram in the manifest; a control that it records with the same settings is read.
        share
            Fraction of the tomogram, or of the part with a sample; at most `MAX_NOISE` voxels are taken.
        pool
            Candidates of the tomogram: the noise has the power that is measured beside the strongest of them.
            By default it has the power of the whole tomogram. Noise of half tomograms needs no candidates.
        """
        source = "halves" if self.halves else "tomogram" if pool is None else "background"
        key, recorded = self._key(name, entry, share, source), entry.get("noise", {})
        path = self.out / FOLDER / f"{name}.json"
        if recorded.get("key") == key and _key_of(path) == key:
            return read_decoys(path), dict(recorded)
        start = time.monotonic()
        tomogram = prepare(
            Path(entry["key"]["input"]), self.card, entry["voxel_size"], entry["contrast"], resample=True
        )
        # the precision that was measured, where `auto` was asked for
        measured = {"precision": entry["key"]["settings"]["precision"], "surroundings": False}
        config = self.segmenting.model_copy(update=measured)
        search = _Search(self, name, entry, tomogram, config, renamed(on_progress, f"{name}, noise"))
        noise = search.noise(share, pool)
        decoys = search.decoys(noise)[0]
        writable_folder(path.parent)
        with replacing(path) as beside:
            rows = {species: np.round(values, 5).tolist() for species, values in decoys.scores.items()}
            stored = {"key": key, "scores": rows, "scales": dict(decoys.scales)}
            beside.write_text(json.dumps(stored), encoding="utf-8")
        facts = {"share": round(noise.size / tomogram.volume.data.size, 4), "source": source}
        return decoys, {"key": key, **facts, "seconds": round(time.monotonic() - start, 2)}

    def _key(self, name: str, entry: Mapping[str, Any], share: float, source: str) -> dict[str, Any]:
        picking = self.picking.model_dump(
            mode="json",
            include={"species", "method", "distance", "border", "min_size"}
            | (
                {"by_contrast"} if self.picking.by_contrast else set()  # keys of earlier versions lack it
            ),
        )
        halves = {} if self.halves is None else {"halves": self.halves.stamp(name)}
        return {
            "segmentation": {k: v for k, v in entry["key"].items() if k != "input"},
            "picking": picking,
            "share": share,
            "seed": self.seed,
            "source": source,
        } | halves


@dataclass(frozen=True, eq=False)
class _Search:
    """Noise of one tomogram, and its candidates."""

    control: NoiseControl
    name: str
    entry: Mapping[str, Any]
    tomogram: Prepared
    config: SegmentConfig
    on_progress: ProgressCallback

    @cached_property
    def inside(self) -> NDArray[np.bool_] | None:
        """Mask of the user on the grid of the model."""
        original = self.tomogram.original
        mask = read_search_mask(self.config.mask, self.name, original.shape)
        return None if mask is None else mask_on_grid(mask, original, self.tomogram.volume)

    def noise(self, share: float, pool: Particles | None) -> NDArray[np.float32]:
        """Noise of a share of the tomogram; arguments as of :meth:`NoiseControl.run`."""
        from cryovox.inference.phase_noise import phase_randomized

        box = self._box(share)
        if self.control.halves is not None:
            return self._difference(self.control.halves, box)
        rng = np.random.default_rng(self.control.seed)
        if pool is None:
            return phase_randomized(self._normalized(box), rng)
        return self._background(
            box, phase_randomized(self._normalized(self._box(FIRST_SHARE * share)), rng), pool, rng
        )

    def decoys(self, noise: NDArray[np.float32]) -> tuple[Decoys, Particles, tuple[Species, ...]]:
        """Scores of the candidates in noise, these candidates, and the species that are sought."""
        picks, species = self._candidates(noise)
        volume, border = self.tomogram.volume, self.control.picking.border
        searched = 1.0 if self.inside is None else float(self.inside.mean())
        scales = {
            s.name: searched * _room(volume.shape, s.radius, border, volume.voxel_size)
            / _room(noise.shape, s.radius, border, volume.voxel_size)
            for s in species
        }  # fmt: skip
        return Decoys({s.name: picks.named(s.name).scores for s in species}, scales), picks, species

    def _box(self, share: float) -> tuple[slice, slice, slice]:
        from cryovox.inference.phase_noise import central_box, spans_of

        spans = _sample(self.tomogram) if self.inside is None else spans_of(self.inside)
        part = float(np.prod([float(high - low) for low, high in spans]))
        shape, least = self.tomogram.volume.shape, self.control.card.patch
        return central_box(shape, min(share, MAX_NOISE / part), spans, least)

    def _normalized(self, box: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        data = self.tomogram.volume.data
        sample = self.tomogram.normalize(data[box])
        release_pages(data)
        return sample

    def _background(
        self,
        box: tuple[slice, slice, slice],
        first: NDArray[np.float32],
        pool: Particles,
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        """Noise with the power of a part of the tomogram beside its strongest candidates.

        Parameters
        ----------
        first
            Noise with the power of the whole tomogram.
        """
        from cryovox.inference.background import background_noise, beside

        decoys, in_first, species = self.decoys(first)
        size = self.tomogram.volume.voxel_size
        sample = self._normalized(box)
        inside = []
        for picks, shape, corner in (
            (pool, sample.shape, [part.start for part in box]),
            (in_first, first.shape, [0, 0, 0]),
        ):
            strong = []
            for kind in species:
                cut = strongest(pool.named(kind.name).scores, *decoys.of(kind.name))
                own = picks.named(kind.name)
                strong.append(own.take(own.scores >= cut))
            chosen = concatenate(strong).sorted()
            radii = {kind.name: kind.radius / size for kind in species}
            own_radii = np.array([radii[str(name)] for name in chosen.species])
            inside.append(beside(shape, chosen.positions / size - np.array(corner), own_radii))
        return background_noise(sample, inside[0], first, inside[1], rng)

    def _difference(self, halves: Halves, box: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        """Half the difference of the half tomograms, in the units of the normalized tomogram."""
        from cryovox.filters.whitening import WhitenedVoxels
        from cryovox.inference.background import half_difference

        original, parts = self.tomogram.original, []
        for path in halves.files(self.name, original.shape):
            half, _ = on_model_grid(path, read_volume(path, original.voxel_size), self.control.card)
            data = self.tomogram.volume.data
            alike = data.alike(half.data) if isinstance(data, WhitenedVoxels) else half.data
            parts.append(np.asarray(alike[box], np.float32))
        noise, _ = half_difference(self.tomogram.volume.data[box], parts[0], parts[1])
        normalize = self.tomogram.normalize
        return noise * np.float32(normalize.sign / normalize.std)

    def _candidates(self, noise: NDArray[np.float32]) -> tuple[Particles, tuple[Species, ...]]:
        network = self.control.network(self.config)
        volume, card = Volume(noise, self.tomogram.volume.voxel_size), self.control.card
        prepared = Prepared(
            self.tomogram.path, volume, Normalization(0.0, 1.0), self.tomogram.contrast, (), original=volume
        )
        with temporary_folder(self.control.out, f"{self.name}.noise") as folder:
            path = folder / "scores.zarr"
            tiles = limited_tiles(network, card, self.config, volume, folder, afterwards=None)
            write_scores(network, prepared, card, tiles, path, self.on_progress)
            score_map = scores.read(path)
            dense = self._contrasts(prepared, score_map.species)
            score_map = select(score_map, self.control.picking.species, dense)
            return candidates(score_map, self.control.picking), score_map.species

    def _contrasts(self, noise: Prepared, species: tuple[Species, ...]) -> Contrasts | None:
        """Contrast of the noise, in standard deviations of the tomogram."""
        picking, file = self.control.picking, contrast_file(self.control.out, self.name)
        of_noise = contrasts(noise, species, picking)
        if of_noise is None:
            return None
        of_tomogram = stored_contrasts(file, self.entry, lambda: self.tomogram, species, picking)
        return in_units_of(of_noise, of_tomogram or of_noise)


def _sample(tomogram: Prepared) -> list[tuple[int, int]]:
    """The part of a tomogram with a sample: all of it but empty planes above and below."""
    volume, original = tomogram.volume, tomogram.original
    step = volume.voxel_size / original.voxel_size
    low, high = (round(z / step) for z in sample_planes(original))
    spans: Sequence[tuple[int, int]] = [(low, min(max(high, low + 1), volume.shape[0]))]
    return [*spans, (0, volume.shape[1]), (0, volume.shape[2])]


def _room(shape: tuple[int, ...], radius: float, border: float | None, voxel_size: float) -> float:
    """Volume in which a species is picked, in voxels."""
    width = (radius / 2 if border is None else border) / voxel_size
    return float(np.prod([max(1.0, n - 2 * width) for n in shape]))


def _key_of(path: Path) -> Any:
    """Settings of stored candidates; None of a damaged file.

    An interrupted run may have replaced those that the manifest records.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored.get("key") if isinstance(stored, dict) else None


def read_decoys(path: Path) -> Decoys:
    """Candidates in noise that were stored."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    return Decoys({k: np.array(v, np.float32) for k, v in stored["scores"].items()}, stored["scales"])
