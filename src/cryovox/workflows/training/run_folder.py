"""Checks and preparation of a run folder, so that it never holds two different runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from cryovox.core.atomic import discard, replacing, writable_folder
from cryovox.core.config import Config, current_names, to_yaml
from cryovox.core.dataset import Dataset
from cryovox.core.errors import RequestError
from cryovox.core.safe_yaml import load_yaml
from cryovox.formats import dataset as dataset_files
from cryovox.workflows.manifest import Manifest, sha256

ANEW = "choose another --out, or start anew with --overwrite"


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """Everything in `dataset.yaml`, with hashes in place of paths."""
    record: dict[str, Any] = dataset.model_dump(mode="json")
    for row, entry in zip(record["entries"], dataset.entries, strict=True):
        for name in dataset_files.FILES:
            path: Path | None = getattr(entry, name)
            row[name] = None if path is None else sha256(path)
    return record


def check_settings(out: Path, config: Config) -> None:
    """Refuse a folder that holds a run with other settings; former names of settings do not count."""
    settings = out / "config.yaml"
    if not settings.exists():
        return
    text = settings.read_text(encoding="utf-8")
    current = to_yaml(config)
    if text != current and _current(type(config), text) != yaml.safe_load(current):
        raise RequestError(settings, "holds a run with other settings", ANEW)


def _current(kind: type[Config], text: str) -> Any:
    """Settings of a run under their current names; None if the file is damaged."""
    try:
        return current_names(kind, load_yaml(text))
    except yaml.YAMLError:
        return None


def finished_note(run: Path, model: Path) -> str:
    """What to say where the training in a folder was finished before; nothing where it was not.

    Parameters
    ----------
    run
        Folder of the training.
    model
        What came of it.
    """
    try:
        steps = json.loads((run / "manifest.json").read_text(encoding="utf-8")).get("steps")
    except (OSError, ValueError):
        return ""
    if steps is None or not model.exists():
        return ""
    return (
        f"this training was finished before, after {steps} steps, and nothing was trained now. To train "
        f"longer, start another one from its model: --start {model} --out NEW; to train anew: --overwrite"
    )


def prepare_folder(out: Path, config: str, inputs: dict[str, Any], overwrite: bool) -> None:
    """Make the run folder ready; a run on other data is not mixed with this one.

    Parameters
    ----------
    config
        Settings as YAML.
    inputs
        Inputs of the training in JSON, such as :func:`fingerprint` gives.
    overwrite
        Remove what another run left.
    """
    from cryovox.training.state import NAME

    writable_folder(out)
    manifest = out / "manifest.json"
    if overwrite:
        for name in (NAME, "model.safetensors", "metrics.csv", "manifest.json"):
            discard(out / name)

    def check(noted: dict[str, Any]) -> None:
        if isinstance(noted.get("inputs"), dict) and noted["inputs"] != inputs:
            raise RequestError(manifest, "records a run on other data", ANEW)

    Manifest(out, {"inputs": inputs}).write(prepare=check)
    with replacing(out / "config.yaml") as beside:
        beside.write_text(config, encoding="utf-8")
