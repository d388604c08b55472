"""`cryovox simulate`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cryovox.cli.parse import with_settings
from cryovox.cli.screen import Meter, table
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
    device: Device = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Simulate labelled tomograms: a dataset for training and testing.

    --preset takes toy (the default), cell, shrec2021, shrec2021-slab, czii-phantom or subtomogram-50;
    everything in it can be changed by an option below or in YAML.

    Parameters
    ----------
    out
        Folder of the dataset.
    config
        Settings.
    count
        Number of tomograms.
    seed
        Random seed; tomogram i depends on the settings, the seed and i alone.
    structures
        Folder of atomic models (PDB, mmCIF) and maps (MRC), called as the species; the built-in
        stand-ins serve for what is not there.
    match
        Make them look like this tomogram: voxel size, contrast, grey values, spectrum, wedge, noise. Which
        objects they hold is up to the preset: cell has membranes.
    name
        Tomograms are called NAME_000, NAME_001, ...; sim_000, ... by default. A batch with another name is
        added to the dataset in the folder.
    keep
        Also write the tomograms without noise (clean/), the number of the particle in every voxel
        (instances/), or the tilt series (series/). Training needs none of them.
    workers
        Tomograms simulated at a time; the result does not depend on it.
    device
        Device.
    overwrite
        Simulate the batch again, also where it was made with other settings.
    quiet
        Suppress progress output.
    """
    from cryovox.workflows.simulation.dataset import simulate_dataset
    from cryovox.workflows.simulation.tomogram import Keep

    keep_freed_memory()
    _positive("--count", count)
    _positive("--workers", workers)
    file, entries = simulate_dataset(
        out,
        config,
        count=count,
        seed=seed,
        structures=structures,
        match=match,
        name=name,
        keep=Keep(**dict.fromkeys(keep, True)),
        workers=workers,
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
        Targets, each with its own label; the whole built-in library by default, or what is in the
        folder of structures.
    count
        Number of subtomograms, shared evenly by the species.
    seed
        Random seed; subtomogram i depends on the settings, the seed and i alone.
    structures
        Folder of atomic models and maps, called as the species.
    overwrite
        Overwrite an existing set.
    quiet
        Suppress the summary.
    """
    from cryovox.workflows.simulation.dataset import simulate_subtomograms

    _positive("--count", count)
    total = simulate_subtomograms(
        out, config, species=species, count=count, seed=seed, structures=structures, overwrite=overwrite
    )
    if not quiet:
        print(f"{out}: {total} subtomograms")
    return 0


def _preset(name: str | None) -> Callable[..., int]:
    """The command with the defaults of a preset."""
    name = name or PRESET
    if name == SUBTOMOGRAMS:
        return subtomograms
    if name not in PRESETS:
        raise RequestError(
            "--preset", f"there is none called {name!r}", suggestion(name, [*PRESETS, SUBTOMOGRAMS])
        )
    return with_settings(simulate, {"config": PRESETS[name]})


simulate.preset = _preset  # type: ignore[attr-defined]


def _positive(option: str, value: int) -> None:
    if value < 1:
        raise RequestError(option, f"is {value}", "give at least 1")
