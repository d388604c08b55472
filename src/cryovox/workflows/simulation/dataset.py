"""Simulated datasets on disk, with full ground truth."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryovox.core.atomic import writable_folder
from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.core.progress import ProgressCallback, no_progress, renamed
from cryovox.formats import subtomograms
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.subtomograms import write_subtomograms
from cryovox.workflows.batch import run_batch
from cryovox.workflows.cluster.config import ClusterConfig, read_cluster
from cryovox.workflows.devices import Device, choose_device
from cryovox.workflows.manifest import Manifest
from cryovox.workflows.simulation.dataset_folder import SimulatedBatch
from cryovox.workflows.simulation.match import match_config, measure_tomogram, write_match_page
from cryovox.workflows.simulation.templates import known_names, templates
from cryovox.workflows.simulation.tomogram import Keep, SimulateTomogram


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
    cluster: str | None = None,
    overwrite: bool = False,
    command: str = "",
    on_progress: ProgressCallback = no_progress,
) -> tuple[Path, dict[str, Any]]:
    """Write *count* simulated tomograms and their `dataset.yaml`; an interrupted run is resumed.

    Tomogram number i depends on the settings, the templates, *seed* and i alone. Several processes may
    write one batch, or batches of different names, into one folder.

    Parameters
    ----------
    match
        Tomogram to imitate; :func:`match_config` says which settings it changes.
    name
        Name of the batch, "sim" by default. A batch of another name is added to the folder; without a
        name, a folder with other tomograms is refused.
    cluster
        Workers, as :func:`cryovox.workflows.cluster.config.read_cluster` reads them.
    overwrite
        Replace the batch if it exists.

    Returns
    -------
    file, entries
        `dataset.yaml`, and the entries of the manifest for the tomograms of the batch.
    """
    statistics = None if match is None else measure_tomogram(match)
    config = config if statistics is None else match_config(config, statistics)
    settings = None if cluster is None else read_cluster(cluster)
    out = out if settings is None else out.resolve()
    job = SimulateTomogram(
        out, config, seed, structures, keep or Keep(), choose_device(device), command, statistics
    )
    voxel_size = config.scene.voxel_size * config.reconstruction.binning
    batch = SimulatedBatch(out, name or "sim", Dataset(voxel_size=voxel_size, species=job.species()))
    batch.check(named=name is not None)
    writable_folder(out)
    for template in job.templates:
        if "doubt" in template.facts:
            on_progress(template.source, 0.0, template.facts["doubt"])
    manifest = batch.begin(job.facts(), job.batch_key(), overwrite=overwrite)
    names = [batch.name_of(i) for i in range(count)]
    _simulate_all(job, names, manifest, settings or workers, on_progress)
    if match is not None:
        page = out / ("match.html" if batch.name == "sim" else f"match_{batch.name}.html")
        write_match_page(page, match, job.files(names[0])["tomogram"], statistics.sign if statistics else -1)
    entries = [job.entry(one, split[min(i, len(split) - 1)]) for i, one in enumerate(names)]
    return batch.describe(entries), manifest.entries


def _simulate_all(
    job: SimulateTomogram,
    names: list[str],
    manifest: Manifest,
    workers: int | ClusterConfig,
    on_progress: ProgressCallback,
) -> None:
    """Simulate what is missing; a refused request leaves no entry in the manifest."""
    try:
        if isinstance(workers, ClusterConfig):
            _on_cluster(job, names, manifest, workers, on_progress)
        elif workers > 1 and len(names) > 1:
            _in_processes(job, names, manifest, workers, on_progress)
        else:
            run_batch(job, dict.fromkeys(names), manifest, collect=False, on_progress=on_progress)
    except RequestError:
        manifest.withdraw()
        raise
    manifest.refresh()


def _on_cluster(
    job: SimulateTomogram,
    names: list[str],
    manifest: Manifest,
    config: ClusterConfig,
    on_progress: ProgressCallback,
) -> None:
    from cryovox.workflows.cluster.connect import connected
    from cryovox.workflows.cluster.spread import Call, spread
    from cryovox.workflows.cluster.tomograms import without_result

    calls: dict[str, Call] = {n: (without_result, (run_batch, job, {n: None}, manifest), {}) for n in names}
    with connected(config) as client:
        _, failures = spread(client, config, calls, job.out, renamed(on_progress, "tomograms"))
    for error in failures.values():
        raise error


def _in_processes(
    job: SimulateTomogram, names: list[str], manifest: Manifest, workers: int, on_progress: ProgressCallback
) -> None:
    """Simulate several tomograms at a time; each process computes on its share of the cores."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import active_children, get_context

    # Ctrl-C reaches all processes of a terminal; the first one ends the others
    ignore_interrupts = signal.signal, (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, get_context("spawn"), *ignore_interrupts) as pool:
        futures = [pool.submit(_in_process, job, manifest, name, workers) for name in names]
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                future.result()
                on_progress("tomograms", count / len(names), f"{count} of {len(names)}")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.terminate()
            raise


def _in_process(job: SimulateTomogram, manifest: Manifest, name: str, workers: int) -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    run_batch(job, {name: None}, manifest)


def simulate_subtomograms(
    out: Path,
    config: SubtomogramConfig,
    *,
    species: Sequence[str] = (),
    count: int = 10,
    seed: int = 0,
    structures: Path | None = None,
    overwrite: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> int:
    """Write a set of *count* crowded subtomograms, as many of each species; returns their number."""
    if out.suffix not in (".zarr", *subtomograms.HDF5):
        raise RequestError(out, "is no name of a subtomogram set", "call it NAME.zarr or NAME.h5")
    if out.exists() and not overwrite:
        raise RequestError(out, "is there already", "choose another --out, or replace it with --overwrite")
    names = list(species) or known_names(structures)
    if count < len(names):
        remedy = f"give at least {len(names)}, or name fewer --species"
        raise RequestError("--count", f"{count} subtomograms cannot show {len(names)} species", remedy)
    densities = templates(names, config.voxel_size, structures, config.resolution)
    write_subtomograms(out, densities, config, count, seed, on_progress)
    return count
