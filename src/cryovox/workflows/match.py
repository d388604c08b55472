"""Template matching: from a structure or map and tomograms to particles with poses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing
from cryovox.core.config import Contrast
from cryovox.core.dataset import Entry
from cryovox.core.errors import RequestError
from cryovox.core.intensity import MIN_CERTAINTY, Normalization, detect_contrast, sign_of
from cryovox.core.particles import Particles, Species
from cryovox.core.progress import ProgressCallback, no_progress, portion
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import mrc, read_particles, read_volume, scores, stem
from cryovox.formats.angles import eulers_of
from cryovox.formats.particles.manifest import Origin
from cryovox.inference import matching
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.picking import pick_counted
from cryovox.report.doctor import Finding
from cryovox.report.html import ReportEntry, write_find_report
from cryovox.simulate.config.microscope import OpticsConfig
from cryovox.simulate.microscope.optics import ctf
from cryovox.simulate.particles.template import Template
from cryovox.workflows.batch import Failures, Job, Result, run_batch
from cryovox.workflows.config import MatchConfig, PickOutput
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.inputs import checked_statistics, expand, read_search_mask, refuse_wrapped_bytes
from cryovox.workflows.manifest import Manifest, locked, sha256
from cryovox.workflows.pick import left_out_notes, tomogram_frame, write_picks
from cryovox.workflows.simulation.templates import read_template

OVERSAMPLING = 2
"""Voxels of the template per voxel of the tomogram, for rotation by linear interpolation."""
DEFAULT_TILTS = (-60.0, 60.0)


def match(  # noqa: PLR0913 (the options of a command)
    template: Path,
    tomograms: list[Path],
    out: Path,
    config: MatchConfig | None = None,
    output: PickOutput | None = None,
    *,
    dataset: Path | None = None,
    device: Device = "auto",
    seed: int = 0,
    overwrite: bool = False,
    command: str = "",
    on_progress: ProgressCallback = no_progress,
) -> tuple[dict[str, dict[str, Any]], Failures]:
    """Search tomograms for a structure; results of an earlier run with the same settings are kept.

    Writes `particles/NAME.star` with poses, `scores/NAME.zarr`, the best rotation of each voxel in
    `rotations/NAME.mrc` with their angles in `rotations/NAME.csv`, and `report.html`.

    Parameters
    ----------
    template
        Structure (PDB, mmCIF), map (MRC, bright particle), or name of a built-in species.
    tomograms
        Files, folders or patterns.
    dataset
        Tilt ranges, tilt axes, contrast and masks of the tomograms, where the settings do not say them.
    seed
        Of the random phases of the noise control.

    Returns
    -------
    entries, failures
        Entries of the manifest, and what went wrong, by name of the tomogram.
    """
    config = config or MatchConfig()
    _check(config)
    files = expand(tomograms)
    entries = {} if dataset is None else {stem(e.tomogram): e for e in dataset_files.read(dataset).entries}
    job = _Match(out, template, config, output or PickOutput(), entries, choose_device(device), seed)
    if not template.exists():
        read_template(template, 10.0)  # refuses an unknown name before any work
    facts = {"command": command, "template": str(template), "device": job.device, "seed": seed}
    manifest = Manifest(out, facts | {"config": config.model_dump(mode="json")}, "match")
    results = run_batch(job, files, manifest, overwrite=overwrite, on_progress=on_progress)
    if results[0]:
        _write_report(out, manifest)
    return results


def _check(config: MatchConfig) -> None:
    """Raise an error for settings that contradict each other."""
    low, high = config.tilt_range or DEFAULT_TILTS
    if not -90 <= low < high <= 90:
        raise RequestError("--tilt-range", f"is {low:g} to {high:g}", "give the lower tilt first, -90 to 90")
    if config.threshold is None and not config.noise_control:
        raise RequestError("--threshold", "is not set", "set it, or a --noise-control above 0")


class Imaging(NamedTuple):
    """How a tomogram was recorded."""

    tilt_range: tuple[float, float]
    tilt_axis: str
    contrast: Contrast
    mask: Path | None


class _Loaded(NamedTuple):
    volume: Volume
    normalize: Normalization
    contrast: Contrast
    inside: NDArray[np.bool_] | None
    template: Template
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Match(Job):
    """Write scores, rotations and particles of one tomogram."""

    out: Path
    template: Path
    config: MatchConfig
    output: PickOutput
    entries: Mapping[str, Entry]
    device: str
    seed: int

    @cached_property
    def rotations(self) -> NDArray[np.float64]:
        return rotation_grid(self.config.angle, self.config.symmetry)

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

    def load(self, name: str, path: Path) -> _Loaded:
        volume = read_volume(path, self.config.voxel_size)
        refuse_wrapped_bytes(path, volume)
        moments = checked_statistics(path, volume)
        imaging = self.imaging(name)
        inside = read_search_mask(imaging.mask, name, volume.shape)
        fine = volume.voxel_size / OVERSAMPLING
        template = read_template(self.template, fine, 2 * volume.voxel_size, self.config.name)
        _check_size(self.template, template, volume, self.config.radius)
        contrast, notes = _contrast(volume, imaging.contrast)
        doubt = template.facts.get("doubt")
        notes += [f"template: {doubt}"] if doubt else []
        normalize = Normalization(moments.mean, moments.std, sign_of(contrast))
        return _Loaded(volume, normalize, contrast, inside, template, tuple(notes))

    def process(self, name: str, loaded: _Loaded, on_progress: ProgressCallback) -> Result:
        volume, normalize = loaded.volume, loaded.normalize
        species = Species(
            name=loaded.template.name, label=1, radius=self.config.radius or loaded.template.radius
        )
        control_piece = _control_piece(loaded, self.config.noise_control)
        search = search_template(
            loaded.template, species.radius, volume.voxel_size, self.imaging(name), self.config,
            normalize(control_piece),
        )  # fmt: skip
        share = control_piece.size / volume.data.size if self.config.noise_control else 0.0
        split = 1 / (1 + share)
        values, best = matching.match(
            volume.data, normalize, search, self.rotations, mask=loaded.inside,
            block_voxels=self.config.block_voxels, device=self.device,
            on_progress=portion(on_progress, 0.0, split),
        )  # fmt: skip
        noise = np.zeros(0, np.float32)
        if share:
            piece = matching.phase_randomized(normalize(control_piece), np.random.default_rng(self.seed))
            noise = self._noise_peaks(
                piece, volume.voxel_size, search, species, portion(on_progress, split, 1.0)
            )
        threshold = self._threshold(noise)
        picking = self.config.picking(threshold)
        score_map = _score_map(values, volume, species, threshold)
        picks, near_edge = pick_counted(score_map, picking, loaded.inside)
        picks = _posed(picks, best, self.rotations, volume.voxel_size)
        outputs = self._write(name, score_map, best, picks, volume)
        searched = float(loaded.inside.mean()) if loaded.inside is not None else 1.0
        facts = {
            "voxel_size": volume.voxel_size, "contrast": loaded.contrast, "count": len(picks),
            "rotations": len(self.rotations), "threshold": round(threshold, 5),
            "radius": round(species.radius, 2), "species": species.name,
            "template": {k: v for k, v in loaded.template.facts.items() if k != "doubt"},
            "best": round(float(values.max()), 5),
            "median": round(float(np.median(picks.scores)), 5) if len(picks) else None,
            "noise": _noise_facts(noise, threshold, share, searched),
            "notes": [*loaded.notes, *left_out_notes({"at_faces": near_edge})],
        }  # fmt: skip
        return Result(outputs, facts)

    def _noise_peaks(
        self, piece: NDArray[np.float32], voxel_size: float, search: matching.SearchTemplate,
        species: Species, on_progress: ProgressCallback,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Scores of the peaks in noise, best first."""
        values, _ = matching.match(
            piece, Normalization(0.0, 1.0), search, self.rotations,
            block_voxels=self.config.block_voxels, device=self.device, on_progress=on_progress,
        )  # fmt: skip
        score_map = _score_map(values, Volume(piece, voxel_size), species, 0.0)
        return pick_counted(score_map, self.config.picking(0.0))[0].scores

    def _threshold(self, noise: NDArray[np.float32]) -> float:
        if self.config.threshold is not None:
            return self.config.threshold
        return float(noise.max()) if len(noise) else 0.0

    def _write(
        self, name: str, score_map: ScoreMap, best: NDArray[np.int32], picks: Particles, volume: Volume
    ) -> dict[str, Path]:
        files = {
            "scores": self.out / "scores" / f"{name}.zarr",
            "rotations": self.out / "rotations" / f"{name}.mrc",
            "angles": self.out / "rotations" / f"{name}.csv",
        }
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        (self.out / "particles").mkdir(exist_ok=True)
        scores.write(files["scores"], score_map)
        # 16-bit integers, or floats that hold larger indices exactly
        kind = np.uint16 if len(self.rotations) <= np.iinfo(np.uint16).max else np.float32
        mrc.write(files["rotations"], volume.with_data(best.astype(kind)))
        with replacing(files["angles"]) as beside:
            rows = np.column_stack([np.arange(len(self.rotations)), eulers_of(self.rotations)])
            np.savetxt(beside, rows, "%d,%.4f,%.4f,%.4f", header="index,rot,tilt,psi", comments="")
        origin = Origin(model=str(self.template), thresholds=score_map.thresholds)
        return {**files, "particles": write_picks(name, self.out, picks, volume, self.output, origin)}


def search_template(
    template: Template,
    radius: float,
    voxel_size: float,
    imaging: Imaging,
    config: MatchConfig,
    piece: NDArray[np.float32],
) -> matching.SearchTemplate:
    """A template with wedge, CTF and filters of a tomogram.

    Parameters
    ----------
    template
        Sampled `OVERSAMPLING` times as finely as the tomogram.
    radius
        Radius of the mask in Å.
    voxel_size
        Of the tomogram, in Å.
    piece : (z, y, x)
        Part of the normalized tomogram, for its spectrum.
    """
    box = matching.filter_box(radius / voxel_size)
    transfer = matching.missing_wedge(box, imaging.tilt_range, imaging.tilt_axis)
    if config.defocus is not None:
        transfer = transfer * _ctf(box, voxel_size, config)
    filters = None
    if config.whiten or config.low_pass or config.high_pass:
        filters = matching.band_pass(box, voxel_size, config.low_pass, config.high_pass)
        filters = filters * matching.whitening(piece, box) if config.whiten else filters
        transfer = transfer * filters
    return matching.SearchTemplate(
        template.density, OVERSAMPLING, radius / voxel_size, transfer.astype(np.float32), filters
    )


def _ctf(box: int, voxel_size: float, config: MatchConfig) -> NDArray[np.float32]:
    """CTF with bright particles, or its absolute value where phases are flipped."""
    optics = OpticsConfig(voltage=config.voltage, cs=config.cs, amplitude_contrast=config.amplitude_contrast)
    values = -ctf(matching.radial_frequency(box) / voxel_size, 1e4 * (config.defocus or 0.0), optics)
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


def _control_piece(loaded: _Loaded, share: float) -> NDArray[Any]:
    """Part of the tomogram, around the middle of the search mask, for the noise control and the spectrum."""
    shape, inside = loaded.volume.shape, loaded.inside
    spans = [(0, n) for n in shape] if inside is None else matching.spans_of(inside)
    least = 4 * int(np.ceil(loaded.template.radius / loaded.volume.voxel_size))
    box = matching.central_box(shape, share or 0.125, spans, least)
    return np.asarray(loaded.volume.data[box])


def _score_map(values: NDArray[np.float32], volume: Volume, species: Species, threshold: float) -> ScoreMap:
    return ScoreMap(
        values[None], volume.voxel_size, (species,), kind="heatmap",
        thresholds={species.name: threshold}, origin=volume.origin, nstart=volume.nstart,
        tomogram_shape=volume.shape, tomogram_voxel_size=volume.voxel_size,
    )  # fmt: skip


def _posed(
    picks: Particles, best: NDArray[np.int32], rotations: NDArray[np.float64], voxel_size: float
) -> Particles:
    """The picks with the best rotations of their voxels."""
    z, y, x = np.clip(np.rint(picks.positions / voxel_size).astype(int), 0, np.array(best.shape) - 1).T
    return Particles.of(picks.positions, picks.species, picks.scores, rotations[best[z, y, x]])


def _noise_facts(
    noise: NDArray[np.float32], threshold: float, share: float, searched: float
) -> dict[str, float] | None:
    """Best score in noise, and the number of picks to expect in noise of the searched volume."""
    if not share:
        return None
    above = int((noise >= threshold).sum())
    return {
        "share": round(share, 4),
        "best": round(float(noise.max()), 5) if len(noise) else 0.0,
        "expected": round(above * searched / share, 1),
    }


def _write_report(out: Path, manifest: Manifest) -> None:
    """The report of all tomograms in the folder that were searched with these settings."""
    page = out / "report.html"
    with locked(page):
        manifest.refresh()
        shown = {k: v for k, v in manifest.facts.items() if k != "device"}
        pages = [_report_entry(name, out, entry) for name, entry in manifest.entries.items()]
        write_find_report(page, [p for p in pages if p is not None], shown, title="Template matching")


def _report_entry(name: str, out: Path, entry: Mapping[str, Any]) -> ReportEntry | None:
    """A tomogram of this or of an earlier run; None where its files are gone."""
    outputs = {kind: Path(path) for kind, path in entry["outputs"].items()}
    path = Path(entry["key"]["input"])
    try:
        score_map = scores.read(out / outputs["scores"])
        volume = read_volume(path, entry["voxel_size"])
        picks = read_particles(out / outputs["particles"], tomogram=tomogram_frame(score_map))
    except (RequestError, OSError):
        return None
    findings = [Finding("warning", "search", note) for note in entry["notes"]]
    if (noise := entry["noise"]) is not None:
        text = f"best score {entry['best']:.3f}; in noise of the same spectrum {noise['best']:.3f}"
        findings.append(Finding("ok" if entry["best"] > noise["best"] else "warning", "noise control", text))
    return ReportEntry(
        name=name, volume=volume, scores=score_map, particles=picks,
        thresholds={entry["species"]: entry["threshold"]}, findings=findings, outputs=outputs,
        seconds=entry["seconds"], sign=sign_of(entry["contrast"]), tomogram=path,
    )  # fmt: skip
