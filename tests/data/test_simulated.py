from functools import partial

import numpy as np
import pytest
import torch

from cryovox.core.errors import RequestError
from cryovox.data.channels import diameter, size_channel, size_species
from cryovox.data.config import PatchConfig
from cryovox.data.imaging_domain import (
    BALL_RADIUS,
    CROWD,
    PROTEIN_POTENTIAL,
    DomainConfig,
    _interpolate,
    apply_microscope,
    crowd_amplitudes,
    signal_power,
    white_noise_spectrum,
)
from cryovox.data.parallel_stream import ParallelStream
from cryovox.data.patches import IGNORE_INDEX, TargetSpec
from cryovox.data.reconstruction_filters import FilterConfig, moments, smooth, spectral_slope
from cryovox.data.sampling import SamplingConfig
from cryovox.data.simulated import KINDS, SimulatedStream, _cube
from cryovox.data.streams import Batch
from cryovox.simulate.config.surroundings import SurroundingsConfig
from cryovox.simulate.particles.template import Template
from cryovox.simulate.stream.box import EMPTY, MEMBRANE, fill_box
from cryovox.simulate.stream.poses import CUBE_ROTATIONS, PoseLibrary, flat_indices
from cryovox.simulate.stream.transfer import TransferFunction

SMALL = DomainConfig(block=(24, 28, 32), patches=5, blocks=3, poses=2, voxel_sizes=2, step=(6.0, 8.0))


def body(name, lengths, n=17):
    """An ellipsoid without symmetry: one end is denser."""
    z, y, x = (np.mgrid[:n, :n, :n] - n // 2).astype(np.float32)
    inside = (z / lengths[0]) ** 2 + (y / lengths[1]) ** 2 + (x / lengths[2]) ** 2 <= 1
    density = np.where(inside, 4 + x / lengths[2] + 0.5 * y / lengths[1], 0).astype(np.float32)
    return Template(name, density, 10.0, inside, 10.0 * max(lengths), 100.0)


TEMPLATES = [body("long", (2.0, 3.0, 5.0)), body("round", (3.0, 3.0, 3.0))]


@pytest.fixture
def stream():
    opened = []

    def make(kind="mask", stride=1, seed=(0, 0), domain=SMALL, patches=None, device="cpu", **more):
        sampling = SamplingConfig(
            TargetSpec(kind, stride), 16, 4, patches or PatchConfig(), seed=seed, device=device
        )
        opened.append(SimulatedStream(TEMPLATES, sampling, domain, **more))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# batches


@pytest.mark.parametrize(
    ("kind", "stride", "shape", "dtype"),
    [
        ("heatmap", 2, (4, 2, 8, 8, 8), torch.float32),
        ("heatmap", 1, (4, 2, 16, 16, 16), torch.float32),
        ("mask", 1, (4, 16, 16, 16), torch.int64),
    ],
)
def test_shapes_and_types(stream, kind, stride, shape, dtype):
    batch = stream(kind, stride).batch(1)
    assert isinstance(batch, Batch)
    assert batch.image.shape == (4, 1, 16, 16, 16)
    assert batch.image.dtype == torch.float32
    assert (batch.target.shape, batch.target.dtype) == (shape, dtype)
    assert (batch.valid_mask.shape, batch.valid_mask.dtype) == (shape, torch.bool)
    assert batch.valid_mask.all()
    assert batch.target.max() > 0.5


def test_a_batch_is_the_same_whenever_it_is_drawn(stream):
    first = stream()
    in_order = [first.batch(n) for n in range(5)]
    fresh = stream()
    for number in (3, 4, 0, 2, 2, 1):
        assert same(fresh.batch(number), in_order[number])
    assert not any(same(in_order[i], in_order[j]) for i in range(5) for j in range(i))


def test_workers_and_threads_change_nothing(stream):
    alone, crew = stream(), stream(workers=3)
    threads = torch.get_num_threads()
    expected = [alone.batch(n) for n in range(4)]
    try:
        torch.set_num_threads(2)
        assert all(same(crew.batch(n), e) for n, e in enumerate(expected))
    finally:
        torch.set_num_threads(threads)


def test_batches_differ_by_seed_and_rank(stream):
    batches = [stream(seed=seed).batch(0) for seed in ((0, 0), (1, 0), (0, 1))]
    assert not any(same(batches[i], batches[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_masks_and_heatmaps_of_one_seed_show_the_same_patches(stream):
    masks, maps = stream("mask"), stream("heatmap")
    for number in range(3):
        a, b = masks.batch(number), maps.batch(number)
        assert torch.equal(a.image, b.image)


def test_every_patch_of_a_group_of_boxes_is_shown_once(stream):
    images = torch.cat([stream().batch(n).image for n in range(3)])
    assert len(torch.unique(images.flatten(1), dim=0)) == 12


def test_large_patches_enlarge_the_box_and_large_batches_the_group(stream):
    made = SimulatedStream(TEMPLATES, SamplingConfig(TargetSpec("mask"), 26, 20, seed=(0,)), SMALL)
    try:
        assert made.shape == (26, 28, 32)
        assert made.batch(0).image.shape == (20, 1, 26, 26, 26)
        assert len(made.truth(1)) == 20
    finally:
        made.close()


def test_no_species_is_refused():
    with pytest.raises(RequestError, match="there are none"):
        SimulatedStream([], SamplingConfig(TargetSpec("mask"), 16, 4))


# truth


def test_truth_lies_in_the_masks_and_on_the_peaks(stream):
    masks, maps = stream("mask"), stream("heatmap")
    found = 0
    for number in range(4):
        batch, peaks = masks.batch(number), maps.batch(number)
        for i, particles in enumerate(masks.truth(number)):
            for at, name in zip(particles.positions / 10.0, particles.species, strict=True):
                voxel = np.clip(np.rint(at).astype(int), 0, 15)
                channel = ["long", "round"].index(name)
                assert batch.target[i][tuple(voxel)] == channel + 1
                assert peaks.target[i, channel][tuple(voxel)] > 0.6
                found += 1
    assert found > 20


def test_every_label_belongs_to_a_particle_nearby(stream):
    made = stream(domain=SMALL.model_copy(update={"surface": 0.0}))
    block = made.block(0)
    shape = np.array(block.image.shape)
    for voxel in np.argwhere(block.contents.labels)[::10]:
        away = np.mod(block.contents.positions - voxel + shape / 2, shape) - shape / 2
        own = block.contents.channels == block.contents.labels[tuple(voxel)] - 1
        assert np.linalg.norm(away[own], axis=1).min() <= 6.2


def test_particles_are_bright_in_what_the_network_sees(stream):
    domain = SMALL.model_copy(update={"snr": (50.0, 50.0), "low_pass": (10.0, 12.0)})
    batches = [stream(domain=domain).batch(n) for n in range(3)]
    image = torch.cat([b.image[:, 0] for b in batches])
    inside = torch.cat([b.target for b in batches]) > 0
    assert image[inside].mean() > image[~inside].mean() + 0.3


def test_species_are_shown_equally_often_near_the_middle(stream):
    config = PatchConfig(foreground=1.0, jitter=0.0)
    made = stream(patches=config)
    middles = torch.cat([made.batch(n).target[:, 8, 8, 8] for n in range(15)])
    counts = torch.bincount(middles, minlength=3)
    assert counts[0] == 0
    assert counts[1:].min() > 15


# poses and crowds


@pytest.fixture(scope="module")
def pose_library():
    return PoseLibrary(TEMPLATES, [9.5, 10.5], 2, (0,))


def placed(turned, shape=(30, 31, 33), corner=(4, 5, 6)):
    box = np.zeros(shape, np.float32)
    at = flat_indices(turned.pose.body, turned.index_tables(np.array(corner), shape))
    box.reshape(-1)[at] = turned.pose.values
    return box


def test_a_turned_pose_is_the_template_turned_that_way(pose_library):
    z, y, x = np.mgrid[:30, :31, :33]
    for number in range(len(pose_library)):
        turned = pose_library.get(0, 0, number)
        box = placed(turned)
        center = turned.center() + np.array([4, 5, 6])
        beyond = turned.rotation().T @ (np.stack([x, y, z]).reshape(3, -1) - center[::-1, None]) * 0.95
        u, v, w = (axis.reshape(z.shape) for axis in beyond)
        lengths = (w / 2) ** 2 + (v / 3) ** 2 + (u / 5) ** 2
        assert box[lengths < 0.5].min() > 2.5
        assert np.abs(box[lengths > 2.2]).max() < 1.0
        # the denser ends are where they belong, so no mirror has crept in
        assert np.corrcoef(box[lengths < 0.5], (u / 5 + 0.5 * v / 3)[lengths < 0.5])[0, 1] > 0.6
        assert np.linalg.det(turned.rotation()) == pytest.approx(1)


def test_the_rotations_of_the_cube_are_24_and_differ():
    assert len(CUBE_ROTATIONS) == 24
    assert len({turn.matrix.tobytes() for turn in CUBE_ROTATIONS}) == 24


def test_poses_do_not_depend_on_who_asked_first(pose_library):
    other = PoseLibrary(TEMPLATES, [9.5, 10.5], 2, (0,))
    for key in ((1, 1, 30), (0, 1, 2), (1, 0, 47)):
        assert np.array_equal(placed(other.get(*key)), placed(pose_library.get(*key)))


def test_a_box_goes_on_at_the_opposite_face(pose_library):
    turned = pose_library.get(0, 0, 3)
    shape = (16, 18, 20)
    inner, across = placed(turned, shape, (2, 3, 4)), placed(turned, shape, (14, 15, 17))
    assert np.array_equal(np.roll(inner, (12, 12, 13), (0, 1, 2)), across)


def test_crowds_do_not_overlap_and_fill_what_was_asked(pose_library):
    shape = (40, 48, 56)
    for seed in range(3):
        found = fill_box(pose_library, 0, shape, 0.1, np.random.default_rng(seed))
        filled = (found.labels > 0).mean()
        assert filled == pytest.approx(0.1, abs=0.012)
        # of each template, as many voxels as particles have: none has lost any to a neighbor
        whole = [pose_library.get(0, t, 0).pose.volume for t in range(2)]
        for t in range(2):
            each = (found.labels == t + 1).sum() / (found.channels == t).sum()
            assert each == pytest.approx(whole[t], rel=0.05)
        assert len(found.positions) == len(found.rotations) == len(found.channels) > 20


def test_a_surface_leaves_the_rest_empty(pose_library):
    found = fill_box(pose_library, 0, (40, 30, 30), 0.1, np.random.default_rng(0), depth=0.5)
    assert found.labels.any(axis=(1, 2)).sum() < 34
    assert len(fill_box(pose_library, 0, (40, 30, 30), 0.0, np.random.default_rng(0)).positions) == 0
    assert len(fill_box(pose_library, 0, (40, 30, 30), 0.9, np.random.default_rng(0), most=5).positions) <= 5


# noise and gray values


@pytest.mark.parametrize("shape", [(8, 10, 12), (9, 7, 11)])
def test_noise_drawn_in_fourier_space_is_white_and_real(shape):
    rng = np.random.Generator(np.random.Philox(0))
    drawn = torch.stack([torch.fft.irfftn(white_noise_spectrum(shape, rng), s=shape) for _ in range(200)])
    assert drawn.var().item() == pytest.approx(1, rel=0.03)
    spectrum = torch.fft.rfftn(drawn, dim=(1, 2, 3)).abs().square().mean(0) / np.prod(shape)
    assert spectrum.mean().item() == pytest.approx(1, rel=0.05)
    assert spectrum[:, :, 0].mean().item() == pytest.approx(1, rel=0.1)
    one = white_noise_spectrum(shape, rng)
    assert torch.allclose(torch.fft.rfftn(torch.fft.irfftn(one, s=shape)), one, atol=1e-4)


@pytest.mark.parametrize("snr", [0.05, 1.0])
def test_a_requested_ratio_of_signal_to_noise_is_met(snr):
    rng = np.random.default_rng(3)
    shape = (24, 28, 32)
    potential = rng.standard_normal(shape).astype(np.float32)
    half = (24, 28, 17)
    both = TransferFunction(np.full(half, 0.3, np.float32), np.full(half, 2.0, np.float32))
    domain = DomainConfig(snr=(snr, snr), gain=0.0, offset=0.0)
    seen = apply_microscope(potential, both, domain, np.random.Generator(np.random.Philox(1)))
    assert seen.mean() == pytest.approx(0, abs=1e-4)
    assert seen.std() == pytest.approx(1, rel=1e-4)
    slope = (seen * potential).mean() / potential.var()
    signal = (slope * potential).var()
    assert signal / (seen - slope * potential).var() == pytest.approx(snr, rel=0.05)


def test_power_counts_every_frequency_but_zero():
    half = torch.ones(4, 4, 3, dtype=torch.complex64)
    half[0, 0, 0] = 100
    assert signal_power(half).item() == 47


@pytest.mark.gpu
def test_another_device_answers_alike(stream):
    if not torch.cuda.is_available():
        # benchmarks/gpu/README.md lists the run that has one
        pytest.skip("needs CUDA; `make test` leaves gpu tests out")
    domain = SMALL.model_copy(update={"noise": (0.0, 0.0)})
    here, there = stream(domain=domain), stream(domain=domain, device="cuda")
    a, b = here.batch(0), there.batch(0)
    assert torch.equal(a.target, b.target)
    assert torch.allclose(a.image, b.image, atol=1e-3)


# surroundings, empty boxes and sizes

CROWDED = SMALL.model_copy(
    update={
        "block": (40, 48, 56),
        "voxel_size": (1.0, 1.0),
        "voxel_sizes": 1,
        "occupancy": (0.05, 0.1),
        "surroundings": SurroundingsConfig(
            share=1.0,
            kind_share=1.0,
            vesicle_radius=(60.0, 80.0),
            protein_mass=(0.0, 0.0),
            texture=(0.0, 0.0),
        ),
    }
)


def test_surroundings_carry_no_labels_and_particles_keep_clear_of_them(stream):
    made = stream(domain=CROWDED)
    whole = [made.pose_library.get(0, t, 0).pose.volume for t in range(2)]
    other_matter = 0
    for number in range(6):
        contents = made.block(number).contents
        assert contents.labels.max() <= 2
        other_matter += ((contents.potential > 2) & (contents.labels == 0)).sum()
        for t in range(2):
            placed_here = (contents.channels == t).sum()
            if placed_here:  # no particle lost voxels to a membrane, nor a membrane its own to a particle
                each = (contents.labels == t + 1).sum() / placed_here
                assert each == pytest.approx(whole[t], rel=0.1)
    assert other_matter > 1000


def test_surroundings_are_only_in_their_share_of_boxes(stream):
    def with_surroundings(share):
        domain = CROWDED.model_copy(
            update={
                "occupancy": (0.0, 0.0),
                "surroundings": CROWDED.surroundings.model_copy(update={"share": share}),
            }
        )
        made = stream(domain=domain)
        return sum(bool(made.block(n).contents.potential.any()) for n in range(12))

    assert with_surroundings(0.0) == 0
    assert with_surroundings(1.0) == 12
    assert 1 < with_surroundings(0.5) < 11


def test_boxes_without_particles_give_empty_targets(stream):
    domain = CROWDED.model_copy(update={"empty": 0.5})
    made = stream("heatmap", 2, domain=domain)
    numbers = [len(made.block(n).contents.positions) for n in range(16)]
    assert 2 < numbers.count(0) < 14
    none = stream("heatmap", 2, domain=domain.model_copy(update={"empty": 1.0})).batch(0)
    assert none.image.std() > 0.5
    assert none.target.max() == 0


def test_batches_with_surroundings_do_not_depend_on_order_or_workers(stream):
    domain = CROWDED.model_copy(
        update={
            "empty": 0.3,
            "species_per_box": (1, 2),
            "filters": FilterConfig(slope_share=0.5, smooth_share=0.5, variation=(0.0, 0.5), clip=4.0),
        }
    )
    first, crew = stream(domain=domain), stream(domain=domain, workers=3)
    expected = [first.batch(n) for n in range(4)]
    assert all(same(crew.batch(n), expected[n]) for n in (3, 1, 0, 2))
    assert not same(stream(domain=domain, seed=(5, 0)).batch(0), expected[0])


def test_templates_share_channels(stream):
    species = size_species((10.0, 1000.0, 2000.0))
    made = stream(species=species, channels=[1, 1])
    contents = [made.block(n).contents for n in range(3)]
    assert made.species == species
    assert all(set(np.unique(c.labels)) == {0, 2} for c in contents)
    assert all((c.channels == 1).all() for c in contents)
    assert {str(name) for p in made.truth(0) for name in p.species} == {"particle-1000-2000"}
    target = stream("heatmap", 2, species=species, channels=[1, 1]).batch(0).target
    assert target[:, 0].max() == 0 < target[:, 1].max()


def test_a_box_holds_as_many_species_as_asked(stream):
    domain = SMALL.model_copy(update={"species_per_box": (1, 1), "occupancy": (0.1, 0.1)})
    made = stream(domain=domain)
    kinds = [np.unique(made.block(n).contents.channels) for n in range(10)]
    assert all(len(k) == 1 for k in kinds)
    assert {int(k[0]) for k in kinds} == {0, 1}


def test_abundant_species_are_drawn_oftener(stream):
    domain = SMALL.model_copy(update={"species_per_box": (1, 1), "occupancy": (0.1, 0.1)})
    made = stream(domain=domain, abundance=[1.0, 999.0])
    assert {int(c) for n in range(10) for c in made.block(n).contents.channels} == {1}


def ball(radius, n=25):
    distance = np.linalg.norm(np.mgrid[:n, :n, :n] - n // 2, axis=0)
    inside = distance <= radius
    return Template("ball", inside.astype(np.float32), 10.0, inside, 10.0 * radius, 100.0)


def test_sizes_go_to_their_channels():
    bounds = (40.0, 70.0, 110.0, 170.0, 400.0)
    sizes = [diameter(ball(radius)) for radius in (1.0, 3.0, 5.0, 8.0, 12.0)]
    assert sizes == pytest.approx([20, 60, 100, 160, 240], rel=0.2)
    assert [size_channel(size, bounds) for size in sizes] == [None, 0, 1, 2, 3]
    assert [size_channel(size, bounds) for size in (40.0, 70.0, 400.0)] == [0, 1, None]
    radii = [s.radius for s in size_species(bounds)]
    assert all(
        2 * r == pytest.approx(np.sqrt(a * b)) for r, a, b in zip(radii, bounds, bounds[1:], strict=False)
    )


# filters


def test_smoothing_removes_noise_and_keeps_edges():
    step = torch.zeros(16, 18, 20)
    step[4:12] = 10.0
    noisy = step + torch.randn(step.shape, generator=torch.Generator().manual_seed(0))
    smoothed = smooth(noisy, 3.0, 6)
    assert (smoothed - step).std() < 0.5 * (noisy - step).std()
    assert (smoothed[5:11].mean() - smoothed[:3].mean()).item() == pytest.approx(10, abs=0.3)
    assert smoothed.mean().item() == pytest.approx(noisy.mean().item(), abs=1e-3)


def test_gold_does_not_count_in_clipped_moments():
    image = torch.randn(32, 32, 34, generator=torch.Generator().manual_seed(1)) + 2.0
    gold = image.clone()
    gold[4:8, 4:8, 4:8] = 80.0
    assert moments(image) == pytest.approx((2.0, 1.0), abs=0.03)
    assert moments(gold)[1] > 3
    assert moments(gold, 4.0) == pytest.approx((2.0, 1.0), abs=0.06)


def test_a_positive_slope_weakens_high_frequencies():
    shape, config = (16, 18, 20), FilterConfig(slope_share=1.0, slope=(1.0, 1.0))
    gains = spectral_slope(shape, 10.0, config, np.random.default_rng(0), "cpu")
    assert gains.shape == (16, 18, 11)
    assert gains[0, 0, 0] == 1
    assert (gains[:9, 0, 0].diff() < 0).all()
    assert spectral_slope(shape, 10.0, FilterConfig(), np.random.default_rng(0), "cpu") is None


def flat_transfer(shape, signal=0.3, noise=2.0):
    half = (*shape[:2], shape[2] // 2 + 1)
    return TransferFunction(np.full(half, signal, np.float32), np.full(half, noise, np.float32))


def test_the_ratio_to_a_reference_crowd_does_not_depend_on_the_box():
    shape, domain = (24, 28, 32), DomainConfig(crowd_snr=(0.5, 0.5), gain=0.0, offset=0.0)
    potential = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    slopes = []
    for scale in (1.0, 2.0):
        rng = np.random.Generator(np.random.Philox(1))
        seen = apply_microscope(scale * potential, flat_transfer(shape), domain, rng)
        part = (seen * potential).mean() / potential.var() * potential
        slopes.append(part.std() / (seen - part).std())
    assert slopes[1] == pytest.approx(2 * slopes[0], rel=0.1)
    crowd = crowd_amplitudes(shape, 10.0, "cpu")
    variance = 2 * float(signal_power(crowd)) / np.prod(shape) ** 2
    assert slopes[0] ** 2 == pytest.approx(0.5 * potential.var() / variance, rel=0.15)


def test_the_reference_crowd_has_the_power_of_balls():
    shape, edge, rng = (48, 56, 64), 10.0, np.random.default_rng(0)
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    radius, powers = BALL_RADIUS / edge, []
    count = round(CROWD * len(points) / (4 / 3 * np.pi * radius**3))
    for _ in range(4):
        field = np.zeros(len(points))
        for center in rng.uniform(0, shape, (count, 3)):
            gap = np.abs(points - center)
            gap = np.minimum(gap, shape - gap)
            field[(gap**2).sum(1) <= radius**2] += PROTEIN_POTENTIAL
        powers.append(field.var())
    expected = 2 * float(signal_power(crowd_amplitudes(shape, edge, "cpu"))) / np.prod(shape) ** 2
    assert np.mean(powers) == pytest.approx(expected, rel=0.1)


def test_cytosol_is_smooth_and_fills_an_empty_box():
    shape = (32, 36, 40)
    domain = DomainConfig(
        cytosol=(1.0, 1.0), cytosol_grain=(30.0, 30.0), noise=(0.0, 0.0), gain=0.0, offset=0.0
    )
    rng = np.random.Generator(np.random.Philox(1))
    seen = apply_microscope(np.zeros(shape, np.float32), flat_transfer(shape), domain, rng)
    assert seen.std() == pytest.approx(1, rel=1e-4)
    along = [(seen * np.roll(seen, step, 2)).mean() for step in (1, 3, 10)]
    # correlation of white noise after a Gaussian of 3 voxels: exp(-d^2 / 36)
    assert along == pytest.approx([np.exp(-1 / 36), np.exp(-9 / 36), np.exp(-100 / 36)], abs=0.12)


def test_low_pass_filters_are_drawn_on_a_logarithmic_scale():
    shares = np.linspace(0, 1, 5)
    assert [_interpolate((10.0, 160.0), s, "log") for s in shares] == pytest.approx([10, 20, 40, 80, 160])
    assert [_interpolate((10.0, 160.0), s) for s in shares] == pytest.approx([10, 47.5, 85, 122.5, 160])


@pytest.mark.parametrize(("kind", "stride"), [("mask", 1), ("heatmap", 2)])
def test_patches_are_cut_off_as_at_the_faces_of_a_tomogram(stream, kind, stride):
    whole = stream(kind, stride).batch(3)
    some = stream(kind, stride, domain=SMALL.model_copy(update={"cut": 1.0})).batch(3)
    for image, mask, before in zip(some.image[:, 0], some.valid_mask, whole.image[:, 0], strict=True):
        inside = mask.reshape(-1, *mask.shape[-3:])[0]
        inside = inside.repeat_interleave(stride, 0).repeat_interleave(stride, 1).repeat_interleave(stride, 2)
        assert 0.5 < inside.float().mean() < 1
        assert (image[~inside] == 0).all()
        assert torch.equal(image[inside], before[inside])
    if kind == "mask":
        assert (some.target[~some.valid_mask] == IGNORE_INDEX).all()


@pytest.mark.slow
def test_processes_change_nothing(stream):
    alone = stream()
    make = partial(SimulatedStream, TEMPLATES, alone.sampling, SMALL, ahead=0)
    crew = ParallelStream(make, alone.batches_per_group, 2)
    try:
        assert all(same(crew.batch(n), alone.batch(n)) for n in (0, 1, 5, 2))
    finally:
        crew.close()


# surroundings

AROUND = SMALL.model_copy(
    update={
        "surroundings": SurroundingsConfig(share=1.0, kind_share=1.0, vesicle_radius=(40.0, 50.0)),
        "void": 1.0,
        "cytosol": (1.0, 1.0),
    }
)


def test_targets_of_surroundings_are_shares_of_output_voxels(stream):
    one = stream("heatmap", 2, domain=AROUND)
    batch, particles = one.surroundings_batch(1), one.batch(1)
    assert torch.equal(batch.image, particles.image)
    assert batch.target.shape == (4, len(KINDS), 8, 8, 8)
    assert torch.equal(batch.target * 8, (batch.target * 8).round())  # of 2 x 2 x 2 voxels
    assert batch.target.sum(1).max() <= 1
    assert batch.valid_mask.all()
    (block, corner), kinds = one._cuts(1)[0], list(KINDS)
    labels = _cube(block.contents.surroundings, corner, 16)
    assert batch.target[0, kinds.index("membrane")].mean() == pytest.approx((labels == MEMBRANE).mean())
    assert batch.target[0, kinds.index("empty")].mean() == pytest.approx((labels == EMPTY).mean())


def test_what_is_cut_off_is_empty(stream):
    batch = stream(
        "heatmap", 2, domain=AROUND.model_copy(update={"cut": 1.0, "void": 0.0})
    ).surroundings_batch(0)
    beyond = batch.image[:, 0].reshape(4, 8, 2, 8, 2, 8, 2).abs().amax((2, 4, 6)) == 0
    assert beyond.any()
    empty = batch.target[:, list(KINDS).index("empty")]
    assert torch.equal(empty > 0, beyond)
    assert not batch.target[:, :-1].amax(1)[beyond].any()


def test_without_void_the_stream_is_as_it_was(stream):
    """A new setting draws no random number where it is off."""
    domain = AROUND.model_copy(update={"void": 0.0})
    with_void = stream(domain=AROUND).block(0).contents
    without = stream(domain=domain).block(0).contents
    sample = with_void.sample
    assert without.sample is None
    assert np.array_equal(without.potential[sample], with_void.potential[sample])


def test_cytosol_ends_at_the_faces_of_the_sample():
    shape = (32, 24, 24)
    sample = np.zeros(shape, bool)
    sample[:16] = True
    flat = np.ones((32, 24, 13), np.float32)
    quiet = DomainConfig(cytosol=(1.0, 1.0), noise=(0.0, 0.0), gain=0.0, offset=0.0)
    rng = np.random.Generator(np.random.Philox(0))
    image = apply_microscope(
        np.zeros(shape, np.float32), TransferFunction(flat, flat), quiet, rng, sample=sample
    )
    assert image[16:].std() < 1e-4 * image[:16].std()
