"""Datasets of phantoms."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovox.core.dataset import Dataset, Entry
from cryovox.formats import dataset as dataset_files
from cryovox.formats import write_labels, write_particles, write_volume
from cryovox.simulate.phantom import SPECIES, PhantomConfig, phantom


def write_phantoms(
    folder: Path, config: PhantomConfig, splits: tuple[str, ...], seed: int, exhaustive: bool = True
) -> Path:
    """Write a dataset with one phantom per element of *splits*; returns the folder."""
    entries: list[Entry] = []
    for number, split in enumerate(splits):
        name = f"phantom_{number:02d}"
        drawn = phantom(config, np.random.default_rng([seed, number]))
        paths = {
            "tomogram": folder / "tomograms" / f"{name}.mrc",
            "labels": folder / "labels" / f"{name}.mrc",
            "particles": folder / "particles" / f"{name}.star",
        }
        write_volume(paths["tomogram"], drawn.volume)
        write_labels(paths["labels"], drawn.labels)
        write_particles(paths["particles"], drawn.particles, tomogram=drawn.volume, tomogram_name=name)
        facts = {"name": name, "split": split, "contrast": "dark" if config.dark else "bright"}
        tilts = (-config.tilt, config.tilt)
        entries.append(
            Entry.model_validate({**facts, **paths, "tilt_range": tilts, "exhaustive": exhaustive})
        )
    dataset = Dataset(voxel_size=config.voxel_size, species=SPECIES, entries=tuple(entries))
    dataset_files.write(folder, dataset)
    return folder
