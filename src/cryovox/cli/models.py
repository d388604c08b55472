"""`cryovox models`."""

from __future__ import annotations

from importlib.resources import files
from json import loads
from pathlib import Path
from typing import Annotated, Any

import tyro

from cryovox.cli.interface.screen import check_json, table, write_json

COLUMNS = ("network", "size", "output", "patch", "weights (M)", "GFLOP per patch", "kFLOP per voxel")


def models(model: Annotated[Path | None, tyro.conf.Positional] = None, /, *, json: Path | None = None) -> int:
    """List the networks, their costs and which one to choose; or describe a model file.

    GFLOP: billions of operations to predict one patch with 16 output channels; a multiply-add counts as two.

    Parameters
    ----------
    model
        Model file to describe; without it, the networks are listed.
    json
        Write the output to this JSON file.
    """
    check_json(json)
    write_json(json, _networks() if model is None else _card(model))
    return 0


ADVICE = """Which network to choose:
  particle picking                 heatmap-unet (default); --size xs for tens of picks,
                                   light on a CPU (train distill)
  domain adaptation                voxresnet (default of those strategies)
  segmentation of tomograms        voxresnet, deepfinder; mvgformer on a GPU
  segmentation of subtomograms     voxresnet, ssn3d-ed; mvgformer on a GPU
  comparison with published work   the other networks, in size paper"""
"""Networks that predict heatmaps give centers; the others give masks."""


def _networks() -> list[dict[str, Any]]:
    from cryovox.models import MODELS, sizes

    text = files("cryovox.models").joinpath("costs.json").read_text(encoding="utf-8")
    counted = {(row["network"], row["size"]): row for row in loads(text)}
    pairs = [(name, size) for name in MODELS for size in sizes(name)]
    rows = [counted.get(row) or _count(*row) for row in pairs]
    print(table(COLUMNS, [_cells(row) for row in rows]))
    print(f"\n{ADVICE}")
    return rows


def _count(name: str, size: str) -> dict[str, Any]:
    """Count the cost of a network of another package, for which no number is stored."""
    from cryovox.models.cost import cost_row

    return cost_row(name, size)


def _cells(row: dict[str, Any]) -> list[Any]:
    names = [row[key] for key in ("network", "size", "kind", "patch")]
    return [*names, row["parameters"] / 1e6, row["flops"] / 1e9, row["flops_per_voxel"] / 1e3]


def _card(model: Path) -> dict[str, Any]:
    from cryovox.core.config import to_yaml
    from cryovox.models.card import read_card

    card = read_card(model)
    print(to_yaml(card), end="")
    return card.model_dump(mode="json")
