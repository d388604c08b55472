"""Batches of simulated tomograms in the folder of a dataset."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryovox.core.atomic import discard
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.errors import RequestError
from cryovox.formats import dataset as dataset_files
from cryovox.workflows.manifest import NAME, Manifest, locked


@dataclass(frozen=True)
class SimulatedBatch:
    """Tomograms NAME_000, NAME_001, ... of one dataset, simulated with the same settings.

    Attributes
    ----------
    out
        Folder of the dataset.
    name
        Name of the batch.
    properties
        Dataset without entries: voxel size and species.
    """

    out: Path
    name: str
    properties: Dataset

    def name_of(self, number: int) -> str:
        """Name of a tomogram."""
        return f"{self.name}_{number:03d}"

    def check(self, named: bool) -> None:
        """Refuse a folder whose dataset has other species or voxels, or holds other tomograms.

        Parameters
        ----------
        named
            Whether the user named the batch; a named batch is added to other tomograms.
        """
        existing = self._existing()
        if existing is None or all(self._owns(entry) for entry in existing.entries):
            return
        if not self._agrees_with(existing):
            message = (
                f"holds a dataset of {_description(existing)}; requested: {_description(self.properties)}"
            )
            raise RequestError(self.out, message, "choose another --out")
        if not named and self._section not in Manifest(self.out, {}).sections:
            names = ", ".join(e.name for e in existing.entries[:3])
            message = f"holds other tomograms already ({names}{', ...' if len(existing.entries) > 3 else ''})"
            raise RequestError(self.out, message, "choose another --out, or add to them with --name NAME")

    def begin(self, facts: dict[str, Any], key: dict[str, Any], *, overwrite: bool) -> Manifest:
        """Record the settings of the batch; one of the same name and other settings is refused.

        Parameters
        ----------
        facts
            What the manifest records of the batch.
        key
            What all tomograms depend on.
        overwrite
            Remove the tomograms of the batch that exist.
        """
        manifest = Manifest(self.out, {**facts, "key": key}, self._section)

        def prepare(part: dict[str, Any]) -> None:
            if overwrite:
                for entry in part.pop("entries", {}).values():
                    for file in entry["outputs"].values():
                        self._discard(self.out / file)
            elif part and part.get("key") != key:
                message = f"holds tomograms {self.name_of(0)}, ... that were simulated with other settings"
                remedy = "choose another --out, add a batch with --name NAME, or replace it with --overwrite"
                raise RequestError(self.out, message, remedy)
            elif not part and (self.out / "tomograms" / f"{self.name_of(0)}.mrc").exists():
                message = f"holds a tomogram {self.name_of(0)} that was not simulated here"
                raise RequestError(self.out, message, "choose another --out, or another --name")

        manifest.write(prepare=prepare)
        return manifest

    def _discard(self, file: Path) -> None:
        """Remove an output; a manifest that names a file outside the folder is refused."""
        if not file.resolve().is_relative_to(self.out.resolve()) or file.resolve() == self.out.resolve():
            message = f"names {file} as an output, which is outside its folder"
            raise RequestError(self.out / NAME, message, "delete the manifest, and the outputs by hand")
        discard(file)

    def describe(self, entries: Sequence[Entry]) -> Path:
        """Add entries to `dataset.yaml`; other entries are kept."""
        file = self.out / dataset_files.FILE
        with locked(file):
            existing = self._existing()
            all_entries = {entry.name: entry for entry in (existing.entries if existing else ())}
            all_entries |= {entry.name: entry for entry in entries}
            kept = tuple(e for e in all_entries.values() if not self._owns(e) or e.tomogram.exists())
            base = existing if existing and self._agrees_with(existing) else self.properties
            return dataset_files.write(self.out, base.model_copy(update={"entries": kept}))

    def _owns(self, entry: Entry) -> bool:
        return re.fullmatch(rf"{re.escape(self.name)}_\d{{3,}}", entry.name) is not None

    def _agrees_with(self, existing: Dataset) -> bool:
        return _key(existing) == _key(self.properties)

    @property
    def _section(self) -> str:
        return f"simulate {self.name}"

    def _existing(self) -> Dataset | None:
        file = self.out / dataset_files.FILE
        return dataset_files.described(file) if file.exists() else None


def _key(dataset: Dataset) -> tuple[float, list[tuple[str, int]]]:
    return dataset.voxel_size, [(s.name, s.label) for s in dataset.species]


def _description(dataset: Dataset) -> str:
    names = [s.name for s in dataset.species]
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{listed or 'no species'} in voxels of {dataset.voxel_size:g} Å"
