"""Labelled tomograms on disk: a dataset with all that is true of it."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.core.atomic import replacing, writable_folder
from cryovox.core.config import to_yaml
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.core.particles import Species
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Volume
from cryovox.formats import read_volume, subtomograms, write_labels, write_particles, write_volume
from cryovox.report.simulation_match import likeness_page
from cryovox.report.wedge import SEEN, find_wedge
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.realism.match import match_tomogram
from cryovox.simulate.realism.statistics import TomogramStatistics, measure_statistics
from cryovox.simulate.scene.build import scene_species
from cryovox.simulate.subtomograms import write_subtomograms
from cryovox.simulate.tomogram import SimulatedTomogram, simulate, target_amplitudes
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.inputs import refuse_wrapped_bytes
from cryovox.workflows.manifest import Manifest
from cryovox.workflows.simulation.dataset_folder import Batch
from cryovox.workflows.simulation.templates import known_names, templates

BIG = 2**16
LIKENESS = 2  # a stream of random numbers of its own
IGNORE = (
    signal.SIGINT,
    signal.SIG_IGN,
)  # Ctrl-C reaches all processes of a terminal; the first one ends them


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


def simulate_dataset(  # noqa: PLR0913 (the options of a command)
    out: Path,
    config: SimulationConfig,
    *,
    count: int = 1,
    seed: int = 0,
    structures: Path | None = None,
    match: Path | None = None,
    name: str | None = None,
    split: Sequence[str] = ("train",),
    keep: Keep | None = None,
    device: Device = "auto",
    workers: int = 1,
    overwrite: bool = False,
    command: str = "",
    on_progress: ProgressCallback = no_progress,
) -> tuple[Path, dict[str, Any]]:
    """Write *count* simulated tomograms and their `dataset.yaml`; goes on where it stopped.

    Tomogram number i depends on the settings, the templates, *seed* and i alone. Several processes may
    write one batch, or batches of different names, into one folder.

    Parameters
    ----------
    match
        A tomogram to be imitated; :func:`adapted` says what it changes in the settings.
    name
        Of the batch, "sim" by default. A batch of another name is added to what the folder holds;
        without a name, a folder that holds other tomograms is refused.
    overwrite
        Make the batch anew where it was made with other settings, or already.

    Returns
    -------
    file, entries
        `dataset.yaml`, and what the manifest says of every tomogram of the batch.
    """
    like = None if match is None else measured(match)
    config = config if like is None else adapted(config, like)
    made = Maker(out, config, seed, structures, keep or Keep(), choose_device(device), command, like)
    edge = config.scene.voxel_size * config.reconstruction.binning
    batch = Batch(out, name or "sim", Dataset(voxel_size=edge, species=made.species()))
    batch.check(named=name is not None)
    writable_folder(out)
    for template in made.templates:
        if "doubt" in template.facts:
            on_progress(template.source, 0.0, template.facts["doubt"])
    manifest = batch.begin(made.facts(), made.key(), overwrite=overwrite)
    names = {batch.name_of(i): i for i in range(count)}
    try:
        if workers > 1 and count > 1:
            _in_processes(made, names, workers, manifest, on_progress)
        else:
            manifest.share(names, lambda one: _make(made, manifest, one, names[one], on_progress))
    except RequestError:
        manifest.withdraw()
        raise
    manifest.refresh()
    if match is not None:
        _compare(out, batch, match, made)
    entries = [_entry(made, one, split[min(i, len(split) - 1)]) for one, i in names.items()]
    return batch.describe(entries), manifest.entries


def simulate_subtomograms(
    out: Path,
    config: SubtomogramConfig,
    *,
    species: Sequence[str] = (),
    count: int = 10,
    seed: int = 0,
    structures: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Write a set of *count* crowded subtomograms, shared evenly by the species; gives their number."""
    if out.suffix not in (".zarr", *subtomograms.HDF5):
        raise RequestError(out, "is no name of a subtomogram set", "call it NAME.zarr or NAME.h5")
    if out.exists() and not overwrite:
        raise RequestError(out, "is there already", "choose another --out, or replace it with --overwrite")
    chosen = list(species) or known_names(structures)
    made = templates(chosen, config.voxel_size, structures, config.resolution)
    if count < len(made):
        advice = f"give at least {len(made)}, or name fewer --species"
        raise RequestError("--count", f"{count} subtomograms cannot show {len(made)} species", advice)
    write_subtomograms(out, made, config, count, seed)
    return count


def measured(tomogram: Path) -> TomogramStatistics:
    """What there is to be imitated in a tomogram."""
    volume = read_volume(tomogram)
    refuse_wrapped_bytes(tomogram, volume)
    return measure_statistics(_tilted_about_y(np.asarray(volume.data)), volume.voxel_size)


def _tilted_about_y(data: NDArray[Any]) -> NDArray[Any]:
    """The tomogram, turned by a quarter about z where its missing wedge is that of a tilt about x.

    What is simulated is always tilted about y.
    """
    wedge = find_wedge(data)
    about_x = wedge.contrast >= SEEN and (wedge.beam, wedge.tilt_axis) == (0, 2)
    return np.rot90(data, axes=(1, 2)) if about_x else data


def adapted(config: SimulationConfig, like: TomogramStatistics) -> SimulationConfig:
    """The settings with the voxel size, shape, slab and tilts of a measured tomogram.

    Counts are taken as so many per volume, and grow with it.
    """
    if config.halves != "none" or config.reconstruction.binning != 1 or config.reconstruction.thickness:
        told = "half-tomograms, binning and another thickness do not go with a tomogram to imitate"
        raise RequestError("--match", told, "leave them at their defaults")
    scene, edge = config.scene, like.voxel_size
    thick = (like.slab[1] - like.slab[0]) * edge
    whole = like.slab == (0, like.shape[0])
    depth = scene.slab or scene.shape[0] * scene.voxel_size
    before = depth * scene.shape[1] * scene.shape[2] * scene.voxel_size**2
    growth = thick * like.shape[1] * like.shape[2] * edge**2 / before
    counts = scene.counts and {k: round(n * growth) for k, n in scene.counts.items()}
    update = {
        "shape": like.shape,
        "voxel_size": edge,
        "slab": None if whole else thick,
        "slab_centre": None if whole else edge * (like.slab[0] + like.slab[1] - 1) / 2,
        "counts": counts,
    }
    tilts = config.tilts if like.tilts is None else config.tilts.model_copy(update={"range": like.tilts})
    return config.model_copy(update={"scene": scene.model_copy(update=update), "tilts": tilts})


def _compare(out: Path, batch: Batch, match: Path, made: Maker) -> None:
    """Write the page that shows the measured and the first simulated tomogram side by side."""
    real = read_volume(match)
    files = paths(out, batch.name_of(0), made.config, made.keep)
    page = likeness_page(
        _tilted_about_y(np.asarray(real.data)),
        np.asarray(read_volume(files["tomogram"]).data),
        real.voxel_size,
        title=f"{match.name} and its likeness",
        sign=-1 if made.like is None else made.like.sign,
    )
    page_file = "likeness.html" if batch.name == "sim" else f"likeness_{batch.name}.html"
    with replacing(out / page_file) as beside:
        beside.write_text(page, encoding="utf-8")


@dataclass
class Maker:
    """Makes tomogram after tomogram; goes to other processes as it is."""

    out: Path
    config: SimulationConfig
    seed: int
    structures: Path | None
    keep: Keep
    device: str
    command: str
    like: TomogramStatistics | None = None

    def __post_init__(self) -> None:
        self.templates = templates(
            self.config.species, self.config.scene.voxel_size, self.structures, self.config.resolution
        )
        self.amplitudes = target_amplitudes(self.config)

    def species(self) -> tuple[Species, ...]:
        """What the labels mean, and where each template comes from."""
        sources = {t.name: t.source for t in self.templates}
        found = scene_species(self.templates, self.config.scene)
        return tuple(s.model_copy(update={"structure": sources.get(s.name)}) for s in found)

    def facts(self) -> dict[str, Any]:
        """What all tomograms share, for the manifest."""
        told = [
            {"species": t.name, "source": t.source, "mass_kDa": round(t.mass, 1), **t.facts}
            for t in self.templates
        ]
        return {
            "command": self.command,
            "seed": self.seed,
            "templates": told,
            "config": self.config.model_dump(mode="json"),
        }

    def key(self) -> dict[str, Any]:
        """What tomograms depend on, besides their numbers."""
        digest = hashlib.sha256(to_yaml(self.config).encode())
        for template in self.templates:
            digest.update(np.ascontiguousarray(template.density).tobytes())
        if self.like is not None:
            digest.update(json.dumps(self.like.to_dict()).encode())
        if self.amplitudes is not None:
            digest.update(self.amplitudes.tobytes())
        return {
            "seed": self.seed,
            "settings": digest.hexdigest(),
            "keep": asdict(self.keep),
        }

    def __call__(
        self, name: str, number: int, on_progress: ProgressCallback
    ) -> tuple[dict[str, Path], dict[str, Any], float]:
        """Simulate and write; gives the files, what there is to say, and the seconds."""
        began = time.monotonic()
        made = simulate(
            self.templates,
            self.config,
            (self.seed, number),
            device=self.device,
            on_progress=lambda stage, fraction, note="": on_progress(name, fraction, stage),
        )
        if self.like is not None:
            on_progress(name, 0.85, "likeness")
            made = replace(made, tomogram=self._alike(made, number))
        on_progress(name, 0.9, "writing")
        files = self._write(name, made)
        on_progress(name, 1.0)
        found = {key: made.scene.parameters[key] for key in ("wanted", "placed")}
        return files, {"snr": made.snr, **found}, time.monotonic() - began

    def _alike(self, made: SimulatedTomogram, number: int) -> Volume:
        assert self.like is not None
        rng = np.random.default_rng([self.seed, number, LIKENESS])
        return Volume(match_tomogram(-np.asarray(made.clean.data), self.like, rng), made.clean.voxel_size)

    def _write(self, name: str, made: SimulatedTomogram) -> dict[str, Path]:
        files = paths(self.out, name, self.config, self.keep)
        write_volume(files["tomogram"], made.tomogram)
        write_labels(files["labels"], made.labels)
        write_particles(files["particles"], made.particles, tomogram=made.tomogram, tomogram_name=name)
        for which, half in zip(("even", "odd"), made.halves, strict=False):
            write_volume(files[which], half)
        if self.keep.clean:
            write_volume(files["clean"], made.clean)
        if self.keep.instances:
            numbers = made.instances
            storable = numbers.astype(np.uint16 if numbers.max(initial=0) < BIG else np.float32)
            write_volume(files["instances"], Volume(storable, made.tomogram.voxel_size))
        if self.keep.series:
            write_volume(files["series"], Volume(made.series.counts, made.series.voxel_size))
            write_volume(files["noisefree"], Volume(made.series.noisefree, made.series.voxel_size))
        with replacing(files["truth"]) as beside:
            beside.write_text(json.dumps(made.parameters()), encoding="utf-8")
        return files


def paths(out: Path, name: str, config: SimulationConfig, keep: Keep) -> dict[str, Path]:
    """Where everything of a tomogram goes."""
    files = {
        "tomogram": out / "tomograms" / f"{name}.mrc",
        "labels": out / "labels" / f"{name}.mrc",
        "particles": out / "particles" / f"{name}.star",
        "truth": out / "truth" / f"{name}.json",
    }
    if config.halves != "none":
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


def _make(made: Maker, manifest: Manifest, name: str, number: int, on_progress: ProgressCallback) -> None:
    """Make a tomogram, unless an earlier run has done so, and note it."""
    key = {"number": number, **made.key()}
    if not manifest.done(name, key):
        files, facts, seconds = made(name, number, on_progress)
        manifest.note(name, key, files, seconds, **facts)


def _in_processes(
    made: Maker, names: Mapping[str, int], workers: int, manifest: Manifest, on_progress: ProgressCallback
) -> None:
    """Several at a time; each process computes on its share of the cores."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import active_children, get_context

    with ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, IGNORE) as pool:
        waiting = [pool.submit(_alone, made, manifest, one, i, workers) for one, i in names.items()]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                on_progress("tomograms", done / len(names), f"{done} of {len(names)}")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.terminate()
            raise


def _alone(made: Maker, manifest: Manifest, name: str, number: int, workers: int) -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    manifest.share([name], lambda one: _make(made, manifest, one, number, no_progress))


def _entry(made: Maker, name: str, split: str) -> Entry:
    files = paths(made.out, name, made.config, made.keep)
    angles = made.config.tilts.angles or made.config.tilts.range
    contrast = "dark" if made.like is None else made.like.contrast
    facts = {"name": name, "split": split, "contrast": contrast, "tilt_range": (min(angles), max(angles))}
    known = {key: files[key] for key in ("tomogram", "labels", "particles", "even", "odd") if key in files}
    return Entry.model_validate({**facts, **known})
