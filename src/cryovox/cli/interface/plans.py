"""`--dry-run`: what a run will take, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cryovox.cli.interface.screen import clock, table, write_json
from cryovox.cli.interface.workers import whole_plan
from cryovox.core.sizes import size_text

if TYPE_CHECKING:
    from cryovox.workflows.dry_run.prediction import Prediction

COLUMNS = ["tomogram", "voxels (z, y, x)", "steps", "time", "memory", "GPU memory", "output"]


def print_plan(
    predictions: Sequence[Prediction], cluster: str | None = None, json: Path | None = None
) -> int:
    """Print what a run will take; returns the exit code."""
    print(table(COLUMNS, [_row(p) for p in predictions]))
    output, ram = sum(p.output for p in predictions), max(p.ram for p in predictions)
    print(whole_plan(cluster, [p.seconds for p in predictions], output, ram))
    write_json(json, [asdict(p) for p in predictions])
    return 0


def _row(p: Prediction) -> list[str]:
    vram = size_text(p.vram) if p.vram else ""
    shape = " x ".join(map(str, p.shape))
    return [p.name, shape, p.steps, clock(p.seconds), size_text(p.ram), vram, f"up to {size_text(p.output)}"]
