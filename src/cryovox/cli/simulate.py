"""`cryovox simulate`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cryovox.cli.interface.parse import with_settings
from cryovox.cli.interface.plans import print_plan
from cryovox.cli.interface.screen import Meter, table
from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.presets import PRESETS
from cryovox.workflows.devices import Device, keep_freed_memory

SUBTOMOGRAMS = "subtomogram-50"
PRESET = "toy"


def simulate(  # noqa: PLR0913 (the options of a command)
    *,
    out: Path,
    config: Annotated[SimulationConfig, tyro.conf.arg(name="")] = PRESETS[PRESET],
    count: int = 1,
    seed: int = 0,
    structures: Path | None = None,
    match: Path | None = None,
    name: str | None = None,
    keep: tuple[Literal["clean", "instances", "series"], ...] = (),
    workers: int = 1,
    cluster: str | None = None,
    device: Device = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: Path | None = None,
) -> int:
    """Simulate labeled tomograms: a dataset for training and testing.

    --preset NAME starts from the settings of toy, cell, shrec2021, shrec2021-slab, czii-phantom or
    subtomogram-50; without it, of toy. Options and YAML files change single settings of the preset.

    Parameters
    ----------
    out
        Output folder: the dataset.
    config
        Settings.
    count
        Number of tomograms.
    seed
        Random seed. Tomogram i depends only on the settings, the seed and i.
    structures
        Folder of atomic models (PDB, mmCIF) and maps (MRC) named after the species; the built-in models are
        used for species without a file.
    match
        Tomogram to match in voxel size, contrast, gray values, power spectrum, missing wedge and noise. The
        preset determines the objects in the sample: cell has membranes.
    name
        Prefix of the tomograms: NAME_000, NAME_001, ...; by default sim. A batch with another prefix is added
        to the dataset in the folder.
    keep
        Also write tomograms without noise (clean/), label maps with the number of the particle (instances/),
        or the tilt series (series/). Training needs none of them.
    workers
        Number of tomograms simulated in parallel; does not change the result.
    cluster
        Workers that simulate the tomograms: local:N, the address of a Dask scheduler, or a YAML file.
    device
        Device.
    overwrite
        Simulate the batch again, even if the existing one has other settings.
    dry_run
        Predict time, memory and output size, without a run.
    quiet
        Suppress progress output.
    json
        With --dry-run: write the prediction to this JSON file.
    """
    from cryovox.workflows.dry_run.simulate import predict
    from cryovox.workflows.simulation.dataset import simulate_dataset
    from cryovox.workflows.simulation.tomogram import Keep

    keep_freed_memory()
    _positive("--count", count)
    _positive("--workers", workers)
    kept = Keep(**dict.fromkeys(keep, True))
    if dry_run:
        plan = predict(
            config, count, structures=structures, match=match, name=name, keep=kept, device=device, seed=seed
        )
        return print_plan(plan, cluster or (f"local:{workers}" if workers > 1 else None), json)
    file, entries = simulate_dataset(
        out,
        config,
        count=count,
        seed=seed,
        structures=structures,
        match=match,
        name=name,
        keep=kept,
        workers=workers,
        cluster=cluster,
        device=device,
        overwrite=overwrite,
        command=shlex.join(["cryovox", *sys.argv[1:]]),
        on_progress=Meter(quiet),
    )
    if not quiet:
        rows = [_row(name, entry) for name, entry in entries.items()]
        print(table(["tomogram", "particles", "SNR", "seconds"], rows))
        print(f"{file}\nnext: cryovox train supervised --data {out} --out RUN")
    return 0


def _row(name: str, entry: dict[str, Any]) -> list[Any]:
    placed, wanted = (sum(entry[key].values()) for key in ("placed", "wanted"))
    return [name, f"{placed} of {wanted}", f"{entry['snr']:.3g}", entry["seconds"]]


def subtomograms(
    *,
    out: Path,
    config: SubtomogramConfig = SubtomogramConfig(),
    species: tuple[str, ...] = (),
    count: int = 320,
    seed: int = 0,
    structures: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Simulate crowded subtomograms of 32^3 voxels with masks of the target (Liu et al. 2018).

    Parameters
    ----------
    out
        Subtomogram set: NAME.zarr or NAME.h5.
    config
        Settings.
    species
        Target species, each with its own label; by default all in --structures, or else all built-in models.
    count
        Number of subtomograms, divided evenly among the species.
    seed
        Random seed. Subtomogram i depends only on the settings, the seed and i.
    structures
        Folder of atomic models and maps named after the species.
    overwrite
        Overwrite an existing set.
    quiet
        Suppress progress output and the summary.
    """
    from cryovox.workflows.simulation.dataset import simulate_subtomograms

    _positive("--count", count)
    total = simulate_subtomograms(
        out,
        config,
        species=species,
        count=count,
        seed=seed,
        structures=structures,
        overwrite=overwrite,
        on_progress=Meter(quiet),
    )
    if not quiet:
        print(f"{out}: {total} subtomograms\nnext: cryovox train supervised --data {out} --out RUN")
    return 0


def _preset(name: str | None) -> Callable[..., int]:
    """The command with the defaults of a preset."""
    name = name or PRESET
    if name == SUBTOMOGRAMS:
        return subtomograms
    if name not in PRESETS:
        raise RequestError(
            "--preset", f"there is no preset {name!r}", suggestion(name, [*PRESETS, SUBTOMOGRAMS])
        )
    return with_settings(simulate, {"config": PRESETS[name]})


simulate.preset = _preset  # type: ignore[attr-defined]


def _positive(option: str, value: int) -> None:
    if value < 1:
        raise RequestError(option, f"is {value}", "give at least 1")
