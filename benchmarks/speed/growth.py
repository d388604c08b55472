"""Processor time and memory of `cryovox find` by the number of species and the size of the network.

Heatmap networks with random weights, on one tomogram and one thread, each command in a process of its own as in `limits.py`. Their scores stay
below the threshold, so nothing is picked: what grows is the network, the writing of scores, the search for peaks and the report.

    python benchmarks/speed/growth.py            # about one processor minute
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from limits import measured, tomogram

from common import write_result
from cryovox.core.particles import Species
from cryovox.models import build, options
from cryovox.models.card import Card
from cryovox.models.checkpoint import save_model
from embedded import WIDTHS

NETWORK, TILE, OVERLAP, VOXEL_SIZE = "heatmap-unet", 64, 0.25, 10.0
SIZES: dict[str, dict[str, Any]] = {
    "xs": options(NETWORK, "xs"),
    "s": options(NETWORK, "s"),
    "m": options(NETWORK, "s", widths=WIDTHS["m"]),
}
"""Options of the network; the package names no size m of this one."""
SPECIES = (1, 7, 13)


def write_model(path: Path, chosen: dict[str, Any], count: int) -> int:
    """Write a model with random weights; gives the number of its weights."""
    torch.manual_seed(0)
    network = build(NETWORK, chosen, 1, count).eval()
    card = Card(
        network=NETWORK,
        options=chosen,
        out_channels=count,
        activation="sigmoid",
        kind="heatmap",
        output_stride=int(network.output_stride),
        patch=TILE,
        overlap=OVERLAP,
        species=tuple(Species(name=f"species-{i}", label=i + 1, radius=100.0) for i in range(count)),
        voxel_size=VOXEL_SIZE,
        contrast="dark",
        thresholds={f"species-{i}": 0.9 for i in range(count)},
    )
    save_model(path, network, card)
    return sum(p.numel() for p in network.parameters())


def main() -> None:
    """Measure all pairs and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", type=int, nargs=3, default=(96, 128, 128))
    shape = tuple(parser.parse_args().shape)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, model = Path(folder) / "tomogram.mrc", Path(folder) / "model.safetensors"
        tomogram(path, shape, VOXEL_SIZE)
        for size, chosen in SIZES.items():
            for count in SPECIES:
                weights = write_model(model, chosen, count)
                out = Path(folder) / f"{size}-{count}"
                words = ["find", str(path), "--model", str(model), "--out", str(out), "--quiet"]
                rows.append({"size": size, "species": count, "weights": weights, **measured(words)})
                print(rows[-1], flush=True)
    write_result("speed-limits-growth", {"shape": shape, "tile": TILE, "overlap": OVERLAP, "rows": rows})


if __name__ == "__main__":
    main()
