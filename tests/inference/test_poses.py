"""Poses at known positions: scores are those of the whole search, and poses lie between its rotations."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.intensity import Normalization
from cryovox.inference import template_filters
from cryovox.inference.matching import match
from cryovox.inference.poses import LEVELS, PoseSearch
from cryovox.inference.rotation_grid import rotation_grid
from cryovox.inference.search_template import SearchTemplate
from cryovox.inference.template_filters import filter_box, missing_wedge
from cryovox.simulate.particles import library
from cryovox.simulate.particles.beads import point_group
from cryovox.simulate.particles.rotate import add_box, rotate

AS_IS = Normalization(0.0, 1.0)
SHAPE = (13, 17, 22)
STEP = 15.0
TILTS = (-60.0, 60.0)
RADIUS = 5.0
"""Of the particles, in voxels."""


def random_template(image, whitens):
    box = filter_box(2.2)
    transfer = missing_wedge(box, (-60, 40))
    filters = template_filters.whitening(image, box) if whitens else None
    density = np.random.default_rng(1).standard_normal((11, 11, 11)).astype(np.float32)
    return SearchTemplate(density, 2.0, 2.2, transfer * filters if whitens else transfer, filters)


@pytest.mark.parametrize("whitens", [False, True])
def test_scores_are_those_of_the_whole_search(whitens):
    """In the middle, near faces, and beyond them."""
    image = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    template, rotations = random_template(image, whitens), Rotation.random(5, random_state=0).as_matrix()
    scores, best = match(image, AS_IS, template, rotations)
    voxels = np.array([[6, 8, 11], [0, 16, 3], [12, 0, 21], [1, 9, 20]])
    (poses,) = PoseSearch(image, AS_IS, template).search(voxels, rotations)
    assert np.allclose(poses.scores, scores[tuple(voxels.T)], atol=1e-5)
    assert np.allclose(poses.rotations, rotations[best[tuple(voxels.T)]])
    (beyond,) = PoseSearch(image, AS_IS, template).search(np.array([[-3.0, 8.2, 25.0]]), rotations)
    assert beyond.positions.tolist() == [[0, 8, 21]]


def test_the_best_voxel_within_reach_is_found():
    image = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    template, rotations = random_template(image, False), Rotation.random(4, random_state=0).as_matrix()
    scores, _ = match(image, AS_IS, template, rotations)
    around = scores[4:9, 6:11, 9:14]
    first, second = PoseSearch(image, AS_IS, template).search(
        np.array([[6.3, 7.8, 11.0]]), rotations, reach=2, count=2
    )
    assert first.scores[0] == pytest.approx(around.max(), abs=1e-5)
    assert (first.positions[0] - (4, 6, 9)).tolist() == list(np.unravel_index(around.argmax(), (5, 5, 5)))
    assert second.scores[0] < first.scores[0]
    assert not np.allclose(first.rotations, second.rotations)


def test_empty_boxes_score_zero_and_no_particles_have_no_poses():
    image = np.zeros(SHAPE, np.float32)
    search = PoseSearch(image, AS_IS, random_template(image + 1, False))
    poses = search.locate(np.array([[6.0, 8.0, 11.0]]), np.eye(3)[None], STEP)
    assert poses.scores.tolist() == [0]
    assert len(search.locate(np.zeros((0, 3)), np.eye(3)[None], STEP).positions) == 0


def row_of_particles(species, snr, count):
    """Particles in a row with a missing wedge and white noise; their places, poses and the template."""
    radius = library.build_template(species, 10.0).radius
    voxel = radius / RADIUS
    density = library.build_template(species, voxel)
    edge = density.density.shape[0] + 6
    image = np.zeros((edge, edge + 3, count * edge), np.float32)
    truth = Rotation.random(count, random_state=3).as_matrix()
    places = np.array([[edge // 2, edge // 2 + 1, n * edge + edge // 2] for n in range(count)])
    for place, rotation in zip(places, truth, strict=True):
        box, _ = rotate(density, rotation)
        add_box(image, box, place - box.shape[0] // 2)
    kz, kx = np.fft.fftfreq(image.shape[0])[:, None, None], np.fft.rfftfreq(image.shape[2])
    wedge = np.abs(kz) <= np.tan(np.deg2rad(TILTS[1])) * kx + 1e-9
    image = np.fft.irfftn(np.fft.rfftn(image) * wedge, s=image.shape, axes=(0, 1, 2))
    if snr is not None:
        image += image.std() / np.sqrt(snr) * np.random.default_rng(0).standard_normal(image.shape)
    image = ((image - image.mean()) / image.std()).astype(np.float32)
    fine = library.build_template(species, voxel / 2, 2 * voxel)
    return (
        image,
        places,
        truth,
        SearchTemplate(fine.density, 2, RADIUS, missing_wedge(filter_box(RADIUS), TILTS)),
    )


def pose_errors(rotations, truth, group):
    """Angles in degrees between poses, modulo symmetry."""
    traces = np.einsum("pij,gjk,pik->pg", rotations, point_group(group), truth).max(axis=1)
    return np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))


@pytest.mark.parametrize("snr", [None, 0.5])
@pytest.mark.parametrize(
    "species", ["ribosome-70s", "groel", "beta-galactosidase", "fatty-acid-synthase", "vlp"]
)
def test_poses_are_recovered(species, snr):
    """Asymmetric and symmetric particles, at positions that are a voxel off.

    SNR: variance of the noise-free image over that of the noise.
    """
    image, places, truth, template = row_of_particles(species, snr, count=8)
    group = library.SPECIES[species].group
    grid = rotation_grid(1.5 * STEP, group)
    start = places + np.random.default_rng(0).integers(-1, 2, places.shape)
    poses = PoseSearch(image, AS_IS, template).locate(start, grid, 1.5 * STEP, reach=2)
    errors = pose_errors(poses.rotations, truth, group)
    assert np.median(errors) <= STEP / 2
    assert np.quantile(errors, 0.95) <= STEP
    assert np.linalg.norm(poses.positions - places, axis=1).max() < 0.5


def test_refinement_improves_scores_and_poses():
    image, places, truth, template = row_of_particles("groel", None, count=6)
    search = PoseSearch(image, AS_IS, template)
    (coarse,) = search.search(places, rotation_grid(30.0, "D7"), reach=1)
    fine = search.refine(coarse, 30.0)
    assert (fine.scores > coarse.scores).all()
    before, after = (pose_errors(p.rotations, truth, "D7") for p in (coarse, fine))
    assert np.median(after) < 0.5 * np.median(before)


def test_rotations_lie_between_those_of_the_last_round():
    image, places, truth, template = row_of_particles("vlp", None, count=6)
    search = PoseSearch(image, AS_IS, template)
    (found,) = search.search(places, rotation_grid(STEP, "I"))
    errors = pose_errors(search.refine(found, STEP).rotations, truth, "I")
    assert np.median(errors) < LEVELS[-1] * STEP / 2
    assert len(search.refine(found.at(np.arange(0)), STEP).positions) == 0


def test_shifts_stay_within_reach():
    """A particle three voxels away is reached in three rounds only where that is allowed."""
    image, places, _, template = row_of_particles("vlp", None, count=2)
    search = PoseSearch(image, AS_IS, template)
    (found,) = search.search(places, rotation_grid(STEP, "I"))
    away = replace(found, positions=np.add(found.positions, [0.0, 0.0, 2.0]))
    near, far = (search.refine(away, STEP, reach=reach).positions for reach in (1, 2))
    assert np.abs(near - away.positions).max() <= 1.5
    assert np.abs(far - places).max() < 0.5
