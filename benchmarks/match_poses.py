"""Poses from template matching: accuracy over species, at known positions and by the whole search, with their times.

Each tomogram holds particles of one species at random places and poses over SO(3), with a missing wedge and white
noise. SNR is the variance of the noise-free tomogram at the particles over that of the noise. The whole search and
the search at positions that are up to a voxel off get the same template and step, and take turns; processor
seconds are reported.

    python benchmarks/match_poses.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from common import write_result
from cryovox.core.intensity import Normalization
from cryovox.inference.matching import match
from cryovox.inference.poses import Poses, PoseSearch
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.inference.search_template import SearchTemplate
from cryovox.inference.template_filters import filter_box, missing_wedge
from cryovox.simulate.particles import library
from cryovox.simulate.particles.beads import point_group
from cryovox.simulate.particles.rotate import add_box, rotate
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.matching.poses import COARSE

SPECIES = (
    "ribosome-80s", "ribosome-70s", "fatty-acid-synthase", "groel", "beta-galactosidase",
    "proteasome-26s", "apo-ferritin", "vlp", "p97", "rubisco",
)  # fmt: skip
AS_IS = Normalization(0.0, 1.0)


def tomogram(species: str, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A tomogram, the places and poses of its particles, and its voxel size."""
    rng = np.random.default_rng(args.seed)
    voxel = library.build_template(species, 10.0).radius / args.radius
    template = library.build_template(species, voxel)
    half = template.density.shape[0] // 2
    steps = [np.arange(half, n - half, 2 * args.radius + 1) for n in args.shape]
    sites = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3).astype(int)
    places = rng.permutation(sites)[: args.count]
    truth = Rotation.random(len(places), random_state=rng).as_matrix()
    image = np.zeros(args.shape, np.float32)
    for place, rotation in zip(places, truth, strict=True):
        box, _ = rotate(template, rotation)
        add_box(image, box, place - box.shape[0] // 2)
    kz, kx = np.fft.fftfreq(args.shape[0])[:, None, None], np.fft.rfftfreq(args.shape[2])
    wedge = np.abs(kz) <= np.tan(np.pi / 3) * kx + 1e-9
    image = np.fft.irfftn(np.fft.rfftn(image) * wedge, s=args.shape, axes=(0, 1, 2))
    if args.snr:
        image += image.std() / np.sqrt(args.snr) * rng.standard_normal(args.shape)
    return ((image - image.mean()) / image.std()).astype(np.float32), places, truth, voxel


def errors(poses: Poses, places: np.ndarray, truth: np.ndarray, group: str) -> dict[str, float]:
    """Angles in degrees modulo symmetry, and distances in voxels."""
    traces = np.einsum("pij,gjk,pik->pg", poses.rotations, point_group(group), truth).max(axis=1)
    angles = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    distances = np.linalg.norm(poses.positions - places, axis=1)
    return {
        "median_degrees": float(np.median(angles)),
        "degrees_of_95_percent": float(np.quantile(angles, 0.95)),
        "median_voxels": float(np.median(distances)),
    }


def compare(species: str, args: argparse.Namespace) -> dict[str, object]:
    """Both searches of one tomogram."""
    image, places, truth, voxel = tomogram(species, args)
    group = library.SPECIES[species].group
    fine = library.build_template(species, voxel / 2, 2 * voxel)
    wedge = missing_wedge(filter_box(args.radius), (-60, 60))
    template = SearchTemplate(fine.density, 2, args.radius, wedge)
    search = PoseSearch(image, AS_IS, template, args.device)
    start = time.process_time()
    rotations = rotation_grid(args.angle, group)
    scores, best = match(image, AS_IS, template, rotations, device=args.device)
    at = tuple(places.T)  # the whole search is given the places, so that both have the same particles
    whole = search.refine(Poses(places.astype(float), rotations[best[at]], scores[at]), args.angle)
    middle = time.process_time()
    rough = places + np.random.default_rng(args.seed).integers(-1, 2, places.shape)
    grid = rotation_grid(COARSE * args.angle, group)
    at_picks = search.locate(rough, grid, COARSE * args.angle, reach=int(np.ceil(args.radius / 4)))
    stop = time.process_time()
    seconds = {"whole": middle - start, "at_picks": stop - middle}
    return {
        "species": species, "group": group, "particles": len(places), "rotations": len(rotations),
        "whole": errors(whole, places, truth, group), "at_picks": errors(at_picks, places, truth, group),
        "seconds": seconds, "time_ratio": seconds["at_picks"] / seconds["whole"],
    }  # fmt: skip


def main() -> None:
    """Compare and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--species", nargs="+", default=SPECIES)
    parser.add_argument("--shape", nargs=3, type=int, default=(64, 120, 140))
    parser.add_argument("--radius", type=float, default=5.0, help="of the particles in voxels")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--snr", type=float, default=0.5, help="0 adds no noise")
    parser.add_argument("--angle", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="match_poses", help="of the result file")
    args = parser.parse_args()
    args.shape = tuple(args.shape)
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = []
    for species in args.species:
        rows.append(compare(species, args))
        print(rows[-1], flush=True)
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(args).items()}
    print(write_result(args.name, {"settings": settings, "species": rows}))


if __name__ == "__main__":
    main()
