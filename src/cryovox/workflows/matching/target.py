"""A tomogram, and the template as it would appear in it: wedge, CTF and filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryovox.core.config import Contrast
from cryovox.core.dataset import Entry
from cryovox.core.errors import RequestError
from cryovox.core.intensity import MIN_CERTAINTY, Normalization, detect_contrast, sign_of
from cryovox.core.particles import Species
from cryovox.core.volume import Volume
from cryovox.formats import read_volume
from cryovox.inference import phase_noise, search_template, template_filters
from cryovox.inference.membranes import AxisCone, membrane_cone
from cryovox.simulate.config.microscope import OpticsConfig
from cryovox.simulate.microscope.optics import ctf
from cryovox.simulate.particles.template import Template
from cryovox.workflows.batch import Job
from cryovox.workflows.config import PickOutput
from cryovox.workflows.inputs import checked_statistics, read_search_mask, refuse_wrapped_bytes
from cryovox.workflows.manifest import sha256
from cryovox.workflows.matching.config import DEFAULT_TILTS, MatchConfig
from cryovox.workflows.simulation.templates import read_template

OVERSAMPLING = 2
"""Voxels of the template per voxel of the tomogram, for rotation by linear interpolation."""
MASK = 1.2
"""Radius of the spherical mask over that of the particle: contrast with what is around it counts too."""
SPECTRUM_SHARE = 0.125
"""Fraction of the tomogram whose spectrum is measured, where no other is asked for."""


class Imaging(NamedTuple):
    """How a tomogram was recorded."""

    tilt_range: tuple[float, float]
    tilt_axis: str
    contrast: Contrast
    mask: Path | None


@dataclass(frozen=True, eq=False)
class Target:
    """A tomogram and a template.

    Attributes
    ----------
    path, volume, normalize, contrast
        File of the tomogram, the tomogram, its normalization to bright particles, and the contrast that was
        detected or set.
    inside : (z, y, x) bool or None
        Where to search.
    cone
        Directions of the template that a membrane allows.
    source
        File of the template, or name of a built-in species.
    template
        Sampled `OVERSAMPLING` times as finely as the tomogram.
    imaging, config
        Which wedge, CTF and filters the template gets.
    notes
        What to mention to the user.
    """

    path: Path
    volume: Volume
    normalize: Normalization
    contrast: Contrast
    inside: NDArray[np.bool_] | None
    source: Path
    template: Template
    imaging: Imaging
    config: MatchConfig
    notes: tuple[str, ...]
    cone: AxisCone | None = None

    @cached_property
    def species(self) -> Species:
        radius = self.config.radius or self.template.radius
        return Species(name=self.template.name, label=1, radius=radius)

    @property
    def radius(self) -> float:
        """In voxels."""
        return self.species.radius / self.volume.voxel_size

    @cached_property
    def piece(self) -> tuple[slice, slice, slice]:
        """Part of the tomogram, around the middle of the search mask, for controls and the spectrum."""
        shape, inside = self.volume.shape, self.inside
        spans = [(0, n) for n in shape] if inside is None else phase_noise.spans_of(inside)
        share = self.config.noise_control or SPECTRUM_SHARE
        return phase_noise.central_box(shape, share, spans, 4 * int(np.ceil(self.radius)))

    @property
    def counts_everywhere(self) -> bool:
        """Whether a decoy is searched for in the whole tomogram, not in the piece alone."""
        return self.config.false_positives is not None or self.config.fdr is not None

    @cached_property
    def control(self) -> NDArray[np.float32]:
        """Normalized gray values of the piece."""
        return self.normalize(np.asarray(self.volume.data[self.piece]))

    @cached_property
    def search(self) -> search_template.SearchTemplate:
        """The template with wedge, CTF and filters."""
        config, voxel_size = self.config, self.volume.voxel_size
        radius = MASK * self.radius
        box = template_filters.filter_box(radius)
        transfer = template_filters.missing_wedge(box, self.imaging.tilt_range, self.imaging.tilt_axis)
        if config.defocus is not None:
            transfer = transfer * _ctf(box, voxel_size, config)
        filters = None
        if config.whiten or config.low_pass or config.high_pass:
            filters = template_filters.band_pass(box, voxel_size, config.low_pass, config.high_pass)
            filters = filters * template_filters.whitening(self.control, box) if config.whiten else filters
            transfer = transfer * filters
        return search_template.SearchTemplate(
            self.template.density, OVERSAMPLING, radius, transfer.astype(np.float32), filters
        )

    def mirrored(self) -> Target:
        """With the other hand of the template."""
        density = np.ascontiguousarray(self.template.density[:, :, ::-1])
        support = np.ascontiguousarray(self.template.support[:, :, ::-1])
        return replace(self, template=replace(self.template, density=density, support=support))


def open_target(path: Path, name: str, template: Path, imaging: Imaging, config: MatchConfig) -> Target:
    """Open a tomogram for a template; one that does not suit it is refused."""
    volume = read_volume(path, config.voxel_size)
    refuse_wrapped_bytes(path, volume)
    moments = checked_statistics(path, volume)
    inside = read_search_mask(imaging.mask, name, volume.shape)
    density = read_template(template, volume.voxel_size / OVERSAMPLING, 2 * volume.voxel_size, config.name)
    _check_size(template, density, volume, config.radius)
    contrast, notes = _contrast(volume, imaging.contrast)
    doubt = density.facts.get("doubt")
    notes += [f"template: {doubt}"] if doubt else []
    normalize = Normalization(moments.mean, moments.std, sign_of(contrast))
    target = Target(
        path, volume, normalize, contrast, inside, template, density, imaging, config, tuple(notes)
    )
    return target if config.membrane is None else _beside_membrane(target, name)


def _beside_membrane(target: Target, name: str) -> Target:
    """Search beside a membrane only, with the directions that it allows."""
    config, volume = target.config, target.volume
    membrane = read_search_mask(config.membrane, name, volume.shape, "--membrane")
    assert membrane is not None
    distance = target.species.radius if config.membrane_distance is None else config.membrane_distance
    cone = membrane_cone(membrane, distance / volume.voxel_size, config.membrane_angle)
    inside = cone.inside if target.inside is None else cone.inside & target.inside
    if not inside.any():
        message = "has no voxel in the mask of the sample"
        raise RequestError("--membrane", message, "check that both belong to this tomogram")
    return replace(target, cone=cone, inside=inside)


@dataclass(frozen=True)
class MatchJob(Job):
    """Matching of a template with tomograms."""

    out: Path
    template: Path
    config: MatchConfig
    output: PickOutput
    entries: Mapping[str, Entry]
    device: str
    seed: int

    @cached_property
    def template_hash(self) -> str:
        return sha256(self.template) if self.template.exists() else str(self.template)

    def imaging(self, name: str) -> Imaging:
        """Of the settings, else of the entry of the dataset, else the default."""
        entry, config = self.entries.get(name), self.config
        if entry is None:
            tilts = config.tilt_range or DEFAULT_TILTS
            return Imaging(tilts, config.tilt_axis or "y", config.contrast, config.mask)
        return Imaging(
            config.tilt_range or entry.tilt_range or DEFAULT_TILTS,
            config.tilt_axis or entry.tilt_axis,
            entry.contrast if config.contrast == "auto" else config.contrast,
            config.mask or entry.mask,
        )

    def key(self, name: str) -> dict[str, Any]:
        settings = self.config.model_dump(mode="json", exclude={"block_voxels"})
        imaging = {k: str(v) if isinstance(v, Path) else v for k, v in self.imaging(name)._asdict().items()}
        imaging["tilt_range"] = list(self.imaging(name).tilt_range)
        output = self.output.model_dump(mode="json")
        return {
            "template_sha256": self.template_hash, "settings": settings, "imaging": imaging,
            "output": output, "seed": self.seed,
        }  # fmt: skip

    def load(self, name: str, path: Path) -> Target:
        return open_target(path, name, self.template, self.imaging(name), self.config)


def _ctf(box: int, voxel_size: float, config: MatchConfig) -> NDArray[np.float32]:
    """CTF with bright particles, or its absolute value where phases are flipped."""
    optics = OpticsConfig(voltage=config.voltage, cs=config.cs, amplitude_contrast=config.amplitude_contrast)
    values = -ctf(template_filters.radial_frequency(box) / voxel_size, 1e4 * (config.defocus or 0.0), optics)
    return (np.abs(values) if config.phases_flipped else values).astype(np.float32)


def _check_size(source: Path, template: Template, volume: Volume, radius: float | None) -> None:
    voxels = (radius or template.radius) / volume.voxel_size
    if voxels < 1.5:
        message = f"has a radius of {voxels:.1f} voxels in this tomogram"
        raise RequestError(source, message, "use a tomogram with smaller voxels")
    if 2 * voxels > min(volume.shape):
        message = f"is larger ({2 * voxels:.0f} voxels) than the tomogram {volume.shape} (z, y, x)"
        raise RequestError(source, message, "check both voxel sizes, or set --radius")


def _contrast(volume: Volume, contrast: Contrast) -> tuple[Contrast, list[str]]:
    if contrast != "auto":
        return contrast, []
    detected, certainty = detect_contrast(volume)
    if certainty >= MIN_CERTAINTY:
        return detected, []
    return "dark", ["contrast unclear, particles taken as dark; force with --contrast"]
