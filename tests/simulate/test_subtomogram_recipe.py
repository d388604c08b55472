import numpy as np
import pytest
from scipy import fft
from scipy.spatial.transform import Rotation

from cryovox.core.particles import Particles
from cryovox.formats import subtomograms as files
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.particles.rotate import MAX_VOXEL_RATIO, add_box, overlap_slices, rotate
from cryovox.simulate.particles.template import Template
from cryovox.simulate.subtomograms import (
    arrange_particles,
    recipe_filters,
    simulate_subtomogram,
    write_subtomograms,
)


def bead_template(name, beads, voxel=10.0, n=21, width=14.0):
    """Gaussian balls at (x, y, z) in Å."""
    axis = (np.arange(n) - n // 2) * voxel
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    density = np.zeros((n, n, n), np.float32)
    for bx, by, bz in beads - np.mean(beads, axis=0):
        density += np.exp(-((x - bx) ** 2 + (y - by) ** 2 + (z - bz) ** 2) / (2 * width**2)).astype(
            np.float32
        )
    support = density > 0.3
    radius = float(np.sqrt((x**2 + y**2 + z**2)[support].max()))
    return Template(name, density, voxel, support, radius, 100.0)


@pytest.fixture(scope="module")
def templates():
    bent = np.array([[-30, 0, 0], [0, 0, 0], [25, 20, 0], [25, 30, 25]], float)
    ring = np.array([[40 * np.cos(a), 40 * np.sin(a), 0] for a in np.arange(7) * 2 * np.pi / 7])
    return [bead_template("bent", bent), bead_template("ring", ring), bead_template("dot", np.zeros((1, 3)))]


def center_of_mass(density):
    return np.array([(density.sum(axis=tuple({0, 1, 2} - {a})) * np.arange(n)).sum() for a, n in
                     enumerate(density.shape)]) / density.sum()  # fmt: skip


# turning a template


def test_a_turned_template_is_where_its_beads_are_turned_to():
    beads = np.array([[-30, 0, 0], [0, 0, 0], [25, 20, 0], [25, 30, 25]], float)
    template = bead_template("bent", beads)
    shift = np.array([0.3, -0.4, 0.25])
    for rotation in Rotation.random(5, random_state=1).as_matrix():
        density, support = rotate(template, rotation, shift)
        moved = (beads - beads.mean(axis=0)) @ rotation.T + shift[::-1] * 10
        n = density.shape[0]
        z, y, x = np.meshgrid(*[(np.arange(n) - n // 2) * 10.0] * 3, indexing="ij")
        expected = sum(
            np.exp(-((x - bx) ** 2 + (y - by) ** 2 + (z - bz) ** 2) / (2 * 14.0**2)) for bx, by, bz in moved
        )
        assert np.abs(density - expected).max() < 0.03 * expected.max()
        assert support.sum() == pytest.approx(template.support.sum(), rel=0.1)


def test_the_center_of_mass_goes_where_it_is_sent(templates):
    for template in templates:
        density, _ = rotate(template, Rotation.random(random_state=3).as_matrix(), (0.4, 0.1, -0.5))
        result = center_of_mass(density) - density.shape[0] // 2
        assert np.abs(result - [0.4, 0.1, -0.5]).max() < 0.03


def test_finer_voxels_show_the_same_body(templates):
    coarse, _ = rotate(templates[0], np.eye(3))
    fine, support = rotate(templates[0], Rotation.random(random_state=8).as_matrix(), voxel_size=5.0)
    assert fine.sum() * 5.0**3 == pytest.approx(coarse.sum() * 10.0**3, rel=0.03)
    assert support.sum() * 5.0**3 == pytest.approx(templates[0].support.sum() * 10.0**3, rel=0.1)
    with pytest.raises(ValueError, match="not resolved"):
        rotate(templates[0], np.eye(3), voxel_size=10.0 * MAX_VOXEL_RATIO * 1.01)


def test_a_box_that_hangs_over_is_clipped():
    array = np.zeros((4, 5, 6))
    add_box(array, np.ones((3, 3, 3)), (-1, 3, 5))
    assert array.sum() == 2 * 2 * 1
    assert array[0, 3, 5] == array[1, 4, 5] == 1
    add_box(array, np.ones((3, 3, 3)), (9, 0, 0))
    assert array.sum() == 4
    assert overlap_slices((0, -3, 0), (3, 3, 3), (4, 5, 6)) is None


# who stands where


def test_neighbors_touch_and_do_not_overlap(templates):
    config = SubtomogramConfig(neighbors=4)
    rng = np.random.default_rng(0)
    for _ in range(40):
        placed = arrange_particles(templates, 1, config, rng)
        radii = np.array([templates[k].radius for k in placed.channels]) / config.voxel_size
        gap = np.linalg.norm(placed.positions[:, None] - placed.positions[None], axis=-1)
        gap -= radii[:, None] + radii[None]
        np.fill_diagonal(gap, np.inf)
        assert gap.min() > -1e-9
        assert (gap[1:].min(axis=1) < 1e-9).all()
        assert placed.channels[0] == 1
        assert np.allclose(placed.rotations @ placed.rotations.transpose(0, 2, 1), np.eye(3))


def test_targets_lie_anywhere_within_the_offset(templates):
    rng = np.random.default_rng(1)
    config = SubtomogramConfig(offset=0.25)
    shifts = np.array([arrange_particles(templates, 0, config, rng).positions[0] - 15.5 for _ in range(300)])
    assert np.abs(shifts).max() <= 8
    assert np.abs(shifts).max() > 7.5
    assert np.abs(shifts.mean(axis=0)).max() < 1
    assert shifts.std(axis=0) == pytest.approx(np.full(3, 16 / np.sqrt(12)), rel=0.15)


def test_the_kept_directions_have_no_favorite(templates):
    rng = np.random.default_rng(2)
    config = SubtomogramConfig(neighbors=1)
    arrangements = [arrange_particles(templates, 0, config, rng) for _ in range(500)]
    line = np.array([p.positions[1] - p.positions[0] for p in arrangements])
    line /= np.linalg.norm(line, axis=1, keepdims=True)
    assert np.abs(line.mean(axis=0)).max() < 0.1
    assert (line**2).mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.05)
    ends = np.array([p.rotations[0] @ [0, 0, 1] for p in arrangements])
    assert np.abs(ends.mean(axis=0)).max() < 0.1


# what the microscope leaves


@pytest.mark.parametrize(("snr", "draws"), [(0.05, 30), (0.03, 6), (1.0, 6)])
def test_signal_over_noise_is_what_was_asked(templates, snr, draws):
    ratios = []
    for seed in range(draws):
        noisy, clean = (
            simulate_subtomogram(
                templates, seed % 3, SubtomogramConfig(snr=s), np.random.default_rng(seed)
            ).image
            for s in (snr, np.inf)
        )
        ratios.append(clean.var() / (noisy - clean).var())
    assert ratios == pytest.approx(np.full(draws, snr), rel=0.05)


def test_no_noise_at_an_infinite_ratio(templates):
    drawn = simulate_subtomogram(templates, 0, SubtomogramConfig(snr=np.inf), np.random.default_rng(0))
    assert np.array_equal(drawn.image, drawn.clean)


def test_the_wedge_is_empty_and_the_ring_of_zeros_is_where_it_is_predicted():
    config = SubtomogramConfig(envelope=10.0, resolution=20.0)
    signal, noise = recipe_filters(64, config)
    kz, ky, kx = (fft.fftfreq(64)[:, None, None], fft.fftfreq(64)[None, :, None], fft.rfftfreq(64))
    tilt = np.degrees(np.arctan2(np.abs(kz), np.abs(kx))) + 0 * ky
    assert np.abs(signal[tilt > 60.5]).max() == 0
    assert np.abs(noise[tilt > 60.5]).max() == 0
    assert noise[(tilt < 59.5) & (kz**2 + ky**2 + kx**2 < 0.2)].min() > 0
    # first zero of sin(pi l z k^2 - pi / 2 Cs l^3 k^4), l = 0.019687 Å at 300 kV
    length, z, cs = 0.0196875, 5e4, 2e7
    zero = np.sqrt((z - np.sqrt(z**2 - 2 * cs * length)) / (cs * length**2))
    along = np.abs(signal[0, 0, 1:]) / 10.0
    k = fft.rfftfreq(64)[1:] / 10.0
    crossing = np.flatnonzero(np.diff(np.sign(signal[0, 0, 1:])) != 0)[0]
    assert k[crossing] <= zero <= k[crossing + 1]
    assert along.max() > 0


def test_both_halves_of_the_noise_have_their_share():
    def power(before):
        _, noise = recipe_filters(48, SubtomogramConfig(before=before))
        white = np.random.default_rng(0).standard_normal((48, 48, 48))
        return fft.irfftn(fft.rfftn(white) * noise, white.shape).var()

    assert [power(b) for b in (0.0, 0.5, 1.0)] == pytest.approx([1, 1, 1], rel=0.05)
    all_before = recipe_filters(48, SubtomogramConfig(before=1.0))
    assert all_before[1] == pytest.approx(np.abs(all_before[0]) * (all_before[1].max() / all_before[0].max()))


def test_particles_are_bright(templates):
    drawn = simulate_subtomogram(
        templates, 1, SubtomogramConfig(snr=np.inf, neighbors=0), np.random.default_rng(4)
    )
    assert np.corrcoef(drawn.image.ravel(), drawn.density.ravel())[0, 1] > 0.4
    assert drawn.image[drawn.mask > 0].mean() > drawn.image.mean() + drawn.image.std()


# truth


def test_the_mask_is_the_target_alone(templates):
    level = 0.3 / float(templates[0].density.max())
    config = SubtomogramConfig(threshold=level)
    for seed in range(6):
        drawn = simulate_subtomogram(templates, 0, config, np.random.default_rng(seed))
        alone = drawn.instances == 1
        overlap = 2 * ((drawn.mask > 0) & alone).sum() / (drawn.mask.sum() + alone.sum())
        assert overlap > 0.85
        assert np.abs(center_of_mass(drawn.density) - drawn.particles.positions[0]).max() < 0.05
        assert drawn.particles.positions[0] == pytest.approx(15.5 + drawn.offset)
        assert drawn.density[drawn.mask > 0].min() > level * drawn.density.max() * 0.999
        assert set(np.unique(drawn.instances)) <= set(range(6))


def test_neighbors_reach_into_the_box(templates):
    drawn = [
        simulate_subtomogram(templates, 2, SubtomogramConfig(), np.random.default_rng(s)) for s in range(5)
    ]
    assert all((d.instances > 1).sum() > 50 for d in drawn)


def test_the_same_state_draws_the_same_and_noise_is_drawn_last(templates):
    def draw(snr):
        return simulate_subtomogram(templates, 0, SubtomogramConfig(snr=snr), np.random.default_rng(7))

    first, again, quiet = draw(0.05), draw(0.05), draw(np.inf)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.clean.tobytes() == quiet.image.tobytes()
    assert first.mask.tobytes() == quiet.mask.tobytes()


# sets


def test_a_set_is_written_and_read_back(tmp_path, templates):
    config = SubtomogramConfig(box=16, snr=0.5, neighbors=2)
    write_subtomograms(tmp_path / "set.zarr", templates, config, 9, seed=5)
    stored = files.read(tmp_path / "set.zarr")
    assert stored.images.shape == stored.masks.shape == (9, 16, 16, 16)
    assert [s.label for s in stored.species] == [1, 2, 3]
    assert list(stored.particles.species) == [t.name for t in templates for _ in range(3)]
    for i in (0, 4, 8):
        drawn = simulate_subtomogram(templates, i // 3, config, np.random.default_rng([5, i]))
        assert np.array_equal(stored.images[i], drawn.image)
        assert np.array_equal(stored.masks[i], drawn.mask * (i // 3 + 1))
        assert stored.particles.positions[i] == pytest.approx(drawn.particles.positions[0] * 10.0)
        assert stored.particles.rotations[i] == pytest.approx(drawn.particles.rotations[0])


def test_sets_of_one_seed_show_the_same_scenes(tmp_path, templates):
    for name, snr in (("a", 0.05), ("b", np.inf)):
        config = SubtomogramConfig(box=16, snr=snr, neighbors=1)
        write_subtomograms(tmp_path / f"{name}.zarr", templates[:1], config, 2, seed=1)
    a, b = (files.read(tmp_path / f"{name}.zarr") for name in "ab")
    assert np.array_equal(a.masks[...], b.masks[...])
    assert not np.array_equal(a.images[...], b.images[...])
    assert isinstance(a.particles, Particles)
