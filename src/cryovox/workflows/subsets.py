"""Subsets of tomograms: a text file with one name per line, as the project page saves it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.formats import is_volume, read_text, stem
from cryovox.formats.tomogram_names import listed, plain_name
from cryovox.workflows.inputs import expand


def read_subset(path: Path) -> frozenset[str]:
    """Plain names of tomograms in a file; text after # is ignored, and so are folders and extensions."""
    lines = (line.partition("#")[0].strip() for line in read_text(path).splitlines())
    names = frozenset(plain_name(line) for line in lines if line)
    if not names:
        raise RequestError(path, "names no tomogram", "write one name per line, or leave --subset out")
    return names


def keep_names(names: Mapping[str, str], subset: Path | None) -> list[str]:
    """Keys of the tomograms that a subset names; all without one.

    Parameters
    ----------
    names : key -> name of the tomogram
    """
    if subset is None:
        return list(names)
    wanted = read_subset(subset)
    kept = [key for key, name in names.items() if plain_name(name) in wanted]
    if not kept:
        message = f"names {listed(wanted)}, but the tomograms are {listed(names.values())}"
        raise RequestError(subset, message, "name tomograms as their files are named, without extension")
    return kept


def in_subset(
    inputs: Iterable[Path], subset: Path | None, accepts: Callable[[Path], bool] = is_volume
) -> list[Path]:
    """Inputs of a command; with a subset, the files behind them that it names."""
    if subset is None:
        return list(inputs)
    files = expand(inputs, accepts)
    return [files[name] for name in keep_names({name: name for name in files}, subset)]


def entries_in(dataset: Dataset, subset: Path | None) -> Dataset:
    """A dataset with the entries that a subset names, by their own names or those of their tomograms."""
    if subset is None:
        return dataset
    names = {e.name: e.name for e in dataset.entries} | {
        f"{e.tomogram}": stem(e.tomogram) for e in dataset.entries
    }
    kept = set(keep_names(names, subset))
    entries = tuple(e for e in dataset.entries if {e.name, f"{e.tomogram}"} & kept)
    return dataset.model_copy(update={"entries": entries})
