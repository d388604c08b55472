"""Simulate one tomogram of a dataset and write it with its ground truth."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovox.core.atomic import replacing
from cryovox.core.config import to_yaml
from cryovox.core.dataset import Entry
from cryovox.core.particles import Species
from cryovox.core.progress import ProgressCallback
from cryovox.core.unfinished import UnfinishedParts
from cryovox.core.volume import Volume
from cryovox.formats import write_labels, write_particles, write_volume
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.realism.match import match_tomogram
from cryovox.simulate.realism.statistics import TomogramStatistics
from cryovox.simulate.scene.build import scene_species
from cryovox.simulate.tomogram import SimulatedTomogram, simulate, target_amplitudes
from cryovox.workflows.batch import Job, Result
from cryovox.workflows.simulation.templates import templates

MATCH_STREAM = 2
"""Number of the stream of random numbers for the match with a real tomogram."""


@dataclass(frozen=True)
class Keep:
    """What is written besides tomograms, labels and particles; none of it is needed for training.

    Attributes
    ----------
    clean
        `clean/NAME.mrc`: the tomogram before any noise.
    instances
        `instances/NAME.mrc`: the number of the particle in every voxel.
    series
        `series/NAME.mrc`: the tilt series, with and without noise.
    """

    clean: bool = False
    instances: bool = False
    series: bool = False


@dataclass
class SimulateTomogram(Job):
    """Simulate a tomogram; its name ends in its number. Can be sent to other processes."""

    out: Path
    config: SimulationConfig
    seed: int
    structures: Path | None
    keep: Keep
    device: str
    command: str
    statistics: TomogramStatistics | None = None

    def __post_init__(self) -> None:
        self.templates = templates(
            self.config.species, self.config.scene.voxel_size, self.structures, self.config.resolution
        )
        self.amplitudes = target_amplitudes(self.config)

    def species(self) -> tuple[Species, ...]:
        """Species of the labels, each with the source of its template."""
        sources = {t.name: t.source for t in self.templates}
        species = scene_species(self.templates, self.config.scene)
        return tuple(s.model_copy(update={"structure": sources.get(s.name)}) for s in species)

    def facts(self) -> dict[str, Any]:
        """What the manifest records of all tomograms."""
        rows = [
            {"species": t.name, "source": t.source, "mass_kDa": round(t.mass, 1), **t.facts}
            for t in self.templates
        ]
        return {
            "command": self.command,
            "seed": self.seed,
            "templates": rows,
            "config": self.config.model_dump(mode="json"),
        }

    def batch_key(self) -> dict[str, Any]:
        """What all tomograms depend on."""
        digest = hashlib.sha256(to_yaml(self.config).encode())
        for template in self.templates:
            digest.update(np.ascontiguousarray(template.density).tobytes())
        if self.statistics is not None:
            digest.update(json.dumps(self.statistics.to_dict()).encode())
        if self.amplitudes is not None:
            digest.update(self.amplitudes.tobytes())
        return {"seed": self.seed, "settings": digest.hexdigest(), "keep": asdict(self.keep)}

    def key(self, name: str) -> dict[str, Any]:
        return {"number": _number(name), **self.batch_key()}

    def parts(self, name: str) -> UnfinishedParts:
        return UnfinishedParts.beside(self.files(name)["tomogram"], device=self.device)

    def process(self, name: str, loaded: None, on_progress: ProgressCallback) -> Result:
        number = _number(name)
        simulated = simulate(
            self.templates,
            self.config,
            (self.seed, number),
            device=self.device,
            parts=self.parts(name),
            on_progress=lambda stage, fraction, note="": on_progress(name, fraction, stage),
        )
        if self.statistics is not None:
            on_progress(name, 0.85, "matching")
            rng = np.random.default_rng([self.seed, number, MATCH_STREAM])
            clean = simulated.clean
            data = match_tomogram(-np.asarray(clean.data), self.statistics, rng)
            simulated = replace(simulated, tomogram=Volume(data, clean.voxel_size))
        on_progress(name, 0.9, "writing")
        files = self._write(name, simulated)
        on_progress(name, 1.0)
        counts = {key: simulated.scene.parameters[key] for key in ("wanted", "placed")}
        return Result(files, {"snr": simulated.snr, **counts})

    def entry(self, name: str, split: str) -> Entry:
        """The tomogram in `dataset.yaml`."""
        files = self.files(name)
        angles = self.config.tilts.angles or self.config.tilts.range
        contrast = "dark" if self.statistics is None else self.statistics.contrast
        facts = {"name": name, "split": split, "contrast": contrast, "tilt_range": (min(angles), max(angles))}
        kinds = ("tomogram", "labels", "particles", "even", "odd")
        return Entry.model_validate({**facts, **{kind: files[kind] for kind in kinds if kind in files}})

    def _write(self, name: str, simulated: SimulatedTomogram) -> dict[str, Path]:
        files = self.files(name)
        write_volume(files["tomogram"], simulated.tomogram)
        write_labels(files["labels"], simulated.labels)
        write_particles(
            files["particles"], simulated.particles, tomogram=simulated.tomogram, tomogram_name=name
        )
        for which, half in zip(("even", "odd"), simulated.halves, strict=False):
            write_volume(files[which], half)
        if self.keep.clean:
            write_volume(files["clean"], simulated.clean)
        if self.keep.instances:
            numbers = simulated.instances
            storable = numbers.astype(np.uint16 if numbers.max(initial=0) <= 0xFFFF else np.float32)
            write_volume(files["instances"], Volume(storable, simulated.tomogram.voxel_size))
        if self.keep.series:
            write_volume(files["series"], Volume(simulated.series.counts, simulated.series.voxel_size))
            write_volume(files["noisefree"], Volume(simulated.series.noisefree, simulated.series.voxel_size))
        with replacing(files["truth"]) as beside:
            beside.write_text(json.dumps(simulated.parameters()), encoding="utf-8")
        return files

    def files(self, name: str) -> dict[str, Path]:
        """Output files of a tomogram."""
        out, keep = self.out, self.keep
        files = {
            "tomogram": out / "tomograms" / f"{name}.mrc",
            "labels": out / "labels" / f"{name}.mrc",
            "particles": out / "particles" / f"{name}.star",
            "truth": out / "truth" / f"{name}.json",
        }
        if self.config.halves != "none":
            files |= {which: out / "halves" / f"{name}_{which}.mrc" for which in ("even", "odd")}
        if keep.clean:
            files["clean"] = out / "clean" / f"{name}.mrc"
        if keep.instances:
            files["instances"] = out / "instances" / f"{name}.mrc"
        if keep.series:
            files |= {
                "series": out / "series" / f"{name}.mrc",
                "noisefree": out / "series" / f"{name}_noisefree.mrc",
            }
        return files


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])
