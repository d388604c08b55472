"""Ceiling of MVGFormer's decoders: how well they draw masks from tokens that hold all there is to know.

In place of an encoder's features, a token has the true mask of its own 4 x 4 x 4 voxels, turned into channels by random
orthogonal vectors. The decoder alone is trained, and draws the masks of other cubes. Each seed draws cubes, tokens and
weights (docs/decisions/0026-mvgformer-readings.md).

    python benchmarks/mvgformer_ceiling.py          # about 5 processor minutes
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from common import write_result
from cryovox.benchmark.subtomograms import masks, scores, simulate_set, token_resolution
from cryovox.models.blocks.decoders import LastLevel, MultiLevel
from cryovox.simulate.config.subtomograms import SubtomogramConfig

SPECIES = ("proteasome-20s", "ribosome-70s", "ribosome-80s")
"""Structures whose masks fill about 4, 10 and 17 % of a cube."""
DIM, WIDTH, GRID, TOKEN = 96, 8, 8, 4
"""MVGFormer in size `s`."""
BATCH, TESTED = 2, 6
DECODERS: dict[str, Callable[[], nn.Module]] = {
    "p3da, trilinear": lambda: LastLevel(DIM, 2, width=WIDTH, grid=GRID, scale=TOKEN),
    "p3da, depth-to-space": lambda: LastLevel(
        DIM, 2, width=WIDTH, grid=GRID, scale=TOKEN, enlarge="depth-to-space"
    ),
    "mf, trilinear": lambda: MultiLevel(DIM, 2, width=WIDTH, levels=4, scale=TOKEN),
    "mlp, trilinear": lambda: MultiLevel(DIM, 2, width=WIDTH, levels=4, scale=TOKEN, mlp=True),
}


def true_masks(species: str, count: int, seed: int) -> Tensor:
    """Binary masks (n, 32, 32, 32) of one structure in random orientations."""
    config = SubtomogramConfig(offset=0.0625, neighbors=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.zarr"
        return torch.from_numpy(masks(simulate_set(path, (species,), config, count, 913_000 + seed))).long()


def perfect_tokens(truth: Tensor, directions: Tensor) -> Tensor:
    """Tokens (n, dim, 8, 8, 8) with the voxels of *truth* (n, 32, 32, 32) along *directions* (dim, 64)."""
    cut = "n (z p) (y q) (x r) -> n (p q r) z y x"
    voxels = rearrange(truth.float(), cut, p=TOKEN, q=TOKEN, r=TOKEN)
    return torch.einsum("cv,nvzyx->nczyx", directions, (voxels - voxels.mean()) / voxels.std())


def ceiling(decoder: nn.Module, truth: Tensor, tested: Tensor, steps: int) -> float:
    """IoU of the *tested* masks after training the decoder on *truth*."""
    levels = 4 if isinstance(decoder, MultiLevel) else 1
    directions = torch.linalg.qr(torch.randn(DIM, TOKEN**3))[0]
    tokens = perfect_tokens(truth, directions)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.randint(len(truth), (BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(decoder(levels * [tokens[batch]]), truth[batch]).backward()
        optimizer.step()
        schedule.step()
    decoder.eval()
    with torch.no_grad():
        predicted = decoder(levels * [perfect_tokens(tested, directions)]).argmax(1)
    return scores(predicted.numpy(), tested.numpy())["iou"]


def measure(species: str, seed: int, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Ceiling of all decoders on one size of masks."""
    truth, tested = true_masks(species, args.cubes + TESTED, seed).split([args.cubes, TESTED])
    coarse = scores(token_resolution(tested.numpy().astype(np.uint8)), tested.numpy())["iou"]
    share = round(float(tested.double().mean()), 4)
    row = {"species": species, "seed": seed, "share": share, "token_resolution": coarse}
    for name, decoder in DECODERS.items():
        torch.manual_seed(seed)
        yield {"decoder": name, **row, "iou": ceiling(decoder(), truth, tested, args.steps)}


def main() -> None:
    """Fit all decoders and write `results/mvgformer_ceiling.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cubes", type=int, default=16)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed, species in product(range(args.seeds), SPECIES):
        for row in measure(species, seed, args):
            rows.append(row)
            print(row, flush=True)
    settings = {"cubes": args.cubes, "steps": args.steps, "dim": DIM, "width": WIDTH}
    write_result("mvgformer_ceiling", {"settings": settings, "rows": rows})
    for decoder, species in product(DECODERS, SPECIES):
        own = [row["iou"] for row in rows if (row["decoder"], row["species"]) == (decoder, species)]
        print(decoder, species, f"{mean(own):.3f}", own, sep="  ")


if __name__ == "__main__":
    main()
