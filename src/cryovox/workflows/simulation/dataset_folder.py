"""A batch of simulated tomograms in a dataset that may hold others."""

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
from cryovox.workflows.manifest import Manifest, locked


@dataclass(frozen=True)
class SimulatedBatch:
    """Tomograms NAME_000, NAME_001, ... of one folder, made with the same settings.

    Attributes
    ----------
    out
        Folder of the dataset.
    name
        Of the batch.
    kind
        Voxel size and species.
    """

    out: Path
    name: str
    kind: Dataset

    def name_of(self, number: int) -> str:
        """Name of a tomogram."""
        return f"{self.name}_{number:03d}"

    def check(self, named: bool) -> None:
        """Refuse a folder that holds a dataset to which this batch cannot, or need not, be added.

        Parameters
        ----------
        named
            Whether the user gave the batch a name.
        """
        known = self._known()
        if known is None or all(self._owns(entry) for entry in known.entries):
            return
        if not self._fits(known):
            message = f"holds a dataset of {_said(known)}; asked for are {_said(self.kind)}"
            raise RequestError(self.out, message, "choose another --out")
        if not named and self._section not in Manifest(self.out, {}).sections:
            names = ", ".join(e.name for e in known.entries[:3])
            message = f"holds other tomograms already ({names}{', ...' if len(known.entries) > 3 else ''})"
            raise RequestError(self.out, message, "choose another --out, or add to them with --name NAME")

    def begin(self, facts: dict[str, Any], key: dict[str, Any], *, overwrite: bool) -> Manifest:
        """Note what the batch is made from; one of the same name and other settings is refused.

        Parameters
        ----------
        facts
            For the manifest.
        key
            What the tomograms depend on.
        overwrite
            Remove what there is of the batch.
        """
        manifest = Manifest(self.out, {**facts, "key": key}, self._section)

        def prepare(part: dict[str, Any]) -> None:
            if overwrite:
                for entry in part.pop("entries", {}).values():
                    for file in entry["outputs"].values():
                        discard(self.out / file)
            elif part and part.get("key") != key:
                message = f"holds tomograms {self.name_of(0)}, ... that were made with other settings"
                remedy = "choose another --out, add a batch with --name NAME, or replace it with --overwrite"
                raise RequestError(self.out, message, remedy)
            elif not part and (self.out / "tomograms" / f"{self.name_of(0)}.mrc").exists():
                message = f"holds a tomogram {self.name_of(0)} that was not simulated here"
                raise RequestError(self.out, message, "choose another --out, or another --name")

        manifest.write(prepare=prepare)
        return manifest

    def describe(self, entries: Sequence[Entry]) -> Path:
        """Put entries into `dataset.yaml`; those of other batches, or of more tomograms of this one, stay."""
        file = self.out / dataset_files.FILE
        with locked(file):
            known = self._known()
            all_entries = {entry.name: entry for entry in (known.entries if known else ())}
            all_entries |= {entry.name: entry for entry in entries}
            kept = tuple(e for e in all_entries.values() if not self._owns(e) or e.tomogram.exists())
            base = known if known and self._fits(known) else self.kind
            return dataset_files.write(self.out, base.model_copy(update={"entries": kept}))

    def _owns(self, entry: Entry) -> bool:
        return re.fullmatch(rf"{re.escape(self.name)}_\d{{3,}}", entry.name) is not None

    def _fits(self, known: Dataset) -> bool:
        kinds = [(k.voxel_size, [(s.name, s.label) for s in k.species]) for k in (known, self.kind)]
        return kinds[0] == kinds[1]

    @property
    def _section(self) -> str:
        return f"simulate {self.name}"

    def _known(self) -> Dataset | None:
        file = self.out / dataset_files.FILE
        return dataset_files.described(file) if file.exists() else None


def _said(kind: Dataset) -> str:
    names = [s.name for s in kind.species]
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{listed or 'no species'} in voxels of {kind.voxel_size:g} Å"
