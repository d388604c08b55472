"""Decoys of a template among other species: how many other particles score above the threshold for some expected ones.

Particles of one species after another stand in colored noise with a missing wedge. Each template is searched at the places
of all other species, and so are its decoys: its mirror image, and templates with its spectrum and random phases inside its
envelope. The threshold at which n decoys per template are expected is compared with the number of other particles above it.
The mirror image of one template may match another species better than the template does, or worse, so the numbers are
given for each template and over all of them.

    python benchmarks/match_decoys.py
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from common import write_result
from cryovox.core.intensity import Normalization
from cryovox.inference.poses import PoseSearch
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.inference.search_template import SearchTemplate
from cryovox.inference.template_filters import filter_box, missing_wedge
from cryovox.simulate.particles import library
from cryovox.simulate.particles.beads import point_group
from cryovox.simulate.particles.rotate import add_box, rotate
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.matching.background import mirrored
from cryovox.workflows.matching.target import MASK, OVERSAMPLING
from match_statistics import OTHERS

AS_IS = Normalization(0.0, 1.0)
SPECIES = ("beta-galactosidase", *(name for name in OTHERS if name != "ribosome-70s"))
"""All have a symmetry, which keeps the searches short."""
RANKS = (1, 3, 10)
Scores = dict[str, np.ndarray]


def scene(species: str, args: argparse.Namespace, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Particles of a species in noise, and their places; the noise is the same for all species of a seed."""
    rng, edge = np.random.default_rng(seed), args.spacing
    shape = (edge, edge, edge * args.particles)
    turns = Rotation.random(args.particles, random_state=rng).as_matrix()
    places = np.array([[edge // 2, edge // 2, edge // 2 + n * edge] for n in range(args.particles)])
    volume = np.zeros(shape, np.float32)
    for place, turn in zip(places, turns, strict=True):
        box, _ = rotate(library.build_template(species, args.voxel), turn)
        add_box(volume, box, place - box.shape[0] // 2)
    kz, ky, kx = (
        np.fft.fftfreq(shape[0])[:, None, None], np.fft.fftfreq(shape[1])[:, None], np.fft.rfftfreq(shape[2])
    )  # fmt: skip
    wedge = np.abs(kz) <= np.tan(np.pi / 3) * kx + 1e-9
    color = wedge / (0.1 + np.sqrt(kz**2 + ky**2 + kx**2))
    noise = np.fft.irfftn(np.fft.rfftn(rng.standard_normal(shape)) * color, s=shape, axes=(0, 1, 2))
    signal = np.fft.irfftn(np.fft.rfftn(volume) * wedge, s=shape, axes=(0, 1, 2))
    data = signal / signal.std() + noise / noise.std() / np.sqrt(args.snr)
    return ((data - data.mean()) / data.std()).astype(np.float32), places


def phase_randomized(template: SearchTemplate, symmetry: str, seed: int) -> SearchTemplate:
    """A template with random phases of the same symmetry, inside the envelope of the particle."""
    density = template.density
    noise = np.random.default_rng(seed).standard_normal(density.shape)
    noise = np.sum([turned(noise, rotation) for rotation in point_group(symmetry)], axis=0)
    phases = np.angle(np.fft.rfftn(noise))
    random = np.fft.irfftn(
        np.abs(np.fft.rfftn(density)) * np.exp(1j * phases), s=density.shape, axes=(0, 1, 2)
    )
    envelope = density > 0.05 * density.max()
    inside = (random - random[envelope].mean()) / random[envelope].std()
    values = np.where(envelope, density[envelope].mean() + density[envelope].std() * inside, 0.0)
    return replace(template, density=values.astype(np.float32))


def turned(volume: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """A volume turned about its middle voxel; the rotation acts on (x, y, z)."""
    matrix, middle = rotation[::-1, ::-1].T, np.array(volume.shape) // 2
    return affine_transform(volume, matrix, middle - matrix @ middle, order=1)


def template_of(species: str, args: argparse.Namespace) -> SearchTemplate:
    """The template of a species, as `cryovox match` builds it."""
    voxel = args.voxel / OVERSAMPLING
    built = library.build_template(species, voxel, 2 * args.voxel)
    radius = MASK * built.radius / args.voxel
    return SearchTemplate(built.density, OVERSAMPLING, radius, missing_wedge(filter_box(radius), (-60, 60)))


def scores_of(
    template: SearchTemplate, symmetry: str, scenes: list[tuple[np.ndarray, np.ndarray]], step: float
) -> np.ndarray:
    """Best score over rotations and shifts of two voxels at each particle."""
    grid = rotation_grid(step, symmetry)
    values = [
        PoseSearch(image, AS_IS, template).search(places.astype(float), grid, reach=2)[0].scores
        for image, places in scenes
    ]
    return np.concatenate(values)


def compare(species: str, kinds: tuple[str, ...], args: argparse.Namespace) -> dict[str, object]:
    """Scores of a template and of its decoys at the particles of all other species."""
    group = library.SPECIES[species].group
    template = template_of(species, args)
    scenes = [scene(kind, args, args.seed + n) for n, kind in enumerate(kinds) if kind != species]
    decoys = {"mirror": mirrored(template)}
    decoys |= {f"random {n}": phase_randomized(template, group, n) for n in range(args.random)}
    own = scores_of(template, group, scenes, args.angle)
    rows = {name: scores_of(decoy, group, scenes, args.angle) for name, decoy in decoys.items()}
    return {
        "species": species, "scores": np.round(own, 4).tolist(),
        "decoys": {name: np.round(values, 4).tolist() for name, values in rows.items()},
    }  # fmt: skip


def counts(row: dict[str, object]) -> dict[str, dict[str, float]]:
    """Other particles above the score that so many decoys reach, by background."""
    own, decoys = np.array(row["scores"]), {k: np.array(v) for k, v in row["decoys"].items()}
    random = np.concatenate([v for k, v in decoys.items() if k != "mirror"])
    number = len(decoys) - 1
    both = np.concatenate([np.repeat(decoys["mirror"], number), random])
    backgrounds = {"mirror": (decoys["mirror"], 1), "random": (random, number), "both": (both, 2 * number)}
    return {
        name: {str(n): float((own > np.sort(values)[-n * copies]).sum()) for n in RANKS}
        for name, (values, copies) in backgrounds.items()
    }


def main() -> None:
    """Compare and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--species", nargs="+", default=SPECIES)
    parser.add_argument("--voxel", type=float, default=20.0)
    parser.add_argument("--particles", type=int, default=12, help="of each species")
    parser.add_argument("--spacing", type=int, default=22, help="voxels between them")
    parser.add_argument("--snr", type=float, default=1.0, help="variance of signal over noise in these boxes")
    parser.add_argument("--angle", type=float, default=25.0)
    parser.add_argument("--random", type=int, default=3, help="templates with random phases")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--name", default="match_decoys", help="of the result file")
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = []
    for species in args.species:
        start = time.process_time()
        rows.append(compare(species, tuple(args.species), args))
        rows[-1]["above"] = counts(rows[-1])
        print(species, rows[-1]["above"], f"{time.process_time() - start:.1f} s", flush=True)
    means = {
        name: {n: float(np.mean([row["above"][name][n] for row in rows])) / int(n) for n in map(str, RANKS)}
        for name in rows[0]["above"]
    }
    print("mean of counted over expected:", means)
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(args).items() if k != "name"}
    print(write_result(args.name, {"settings": settings, "templates": rows, "counted_over_expected": means}))


if __name__ == "__main__":
    main()
