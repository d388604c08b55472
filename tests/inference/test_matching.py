import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryovox.core.intensity import Normalization
from cryovox.core.unfinished import UnfinishedParts
from cryovox.inference import matching, phase_noise, template_filters
from cryovox.inference.correlation import plan_blocks
from cryovox.inference.matching import match, match_share
from cryovox.inference.search_template import SearchTemplate
from cryovox.inference.template_filters import filter_box, missing_wedge

SHAPE = (13, 17, 22)
AS_IS = Normalization(0.0, 1.0)


@pytest.fixture
def image():
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def template(whitening=None, radius=3.2):
    density = np.random.default_rng(1).standard_normal((15, 15, 15)).astype(np.float32)
    transfer = missing_wedge(filter_box(radius), (-60, 40))
    if whitening is not None:
        transfer = transfer * whitening
    return SearchTemplate(density, 2.0, radius, transfer, whitening)


def correlations(image, search, rotations, floor=0.0):
    """Weighted Pearson correlation at every voxel, by its definition; with a floor, a regularized one."""
    weights = (search.mask / search.mask.sum()).astype(float)
    padded = np.pad(image, search.mask.shape[0] // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, search.mask.shape)
    mean = (windows * weights).sum(axis=(-3, -2, -1))
    std = np.sqrt((windows**2 * weights).sum(axis=(-3, -2, -1)) - mean**2)
    kernels = search.rotated(rotations).numpy()
    return np.stack([(windows * kernel).sum(axis=(-3, -2, -1)) / (std + floor) for kernel in kernels])


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_scores_are_local_correlations_of_rotated_templates(image, floor):
    search, rotations = template(), Rotation.random(4, random_state=0).as_matrix()
    scores, best = match(image, AS_IS, search, rotations, floor=floor)
    expected = correlations(image, search, rotations, floor)
    assert np.abs(scores - expected.max(axis=0)).max() < 1e-5
    assert (best == expected.argmax(axis=0)).all()


@pytest.mark.parametrize("whitens", [False, True])
def test_blocks_do_not_change_the_scores(image, whitens):
    radius = 2.2
    whitening = template_filters.whitening(image, filter_box(radius)) if whitens else None
    search, rotations = template(whitening, radius), Rotation.random(3, random_state=0).as_matrix()
    assert len(plan_blocks(SHAPE, search.margin, 4096)) > 1
    whole, in_blocks = (match(image, AS_IS, search, rotations, block_voxels=n)[0] for n in (1 << 24, 4096))
    assert np.abs(whole - in_blocks).max() < 1e-5


def test_blocks_cover_every_voxel_once():
    count = np.zeros((40, 31, 57), int)
    for block in plan_blocks(count.shape, 4, 8000):
        count[block.inner] += 1
        assert np.prod(block.fft) <= 8000
    assert (count == 1).all()


def test_the_template_itself_scores_one():
    """Also where the rotation is not the identity and gray values have another scale."""
    rotation = Rotation.from_euler("ZYZ", [30, 50, 70], degrees=True).as_matrix()[None]
    search = template()
    image = np.zeros(SHAPE, np.float32)
    image[3:10, 5:12, 9:16] = 7 * search.rotated(rotation)[0].numpy() / np.maximum(search.mask, 1e-9)
    scores, _ = match(image, Normalization(0.2, 3.0), search, rotation)
    assert np.unravel_index(scores.argmax(), SHAPE) == (6, 8, 12)
    assert scores.max() == pytest.approx(1.0, abs=1e-4)
    assert match(image, Normalization(0.0, 1.0, -1), search, rotation)[0].min() == pytest.approx(-1, abs=1e-4)


def test_empty_regions_score_zero(image):
    image[:, :, 11:] = 0.0
    scores, _ = match(image, AS_IS, template(), np.eye(3)[None])
    assert not scores[:, :, 15:].any()
    assert scores[:, :, :10].all()


def test_blocks_outside_the_mask_are_skipped(image):
    mask = np.zeros(SHAPE, bool)
    mask[:, :, :3] = True
    search, rotations = template(radius=1.6), np.eye(3)[None]
    scores, _ = match(image, AS_IS, search, rotations, mask=mask, block_voxels=1500)
    whole, _ = match(image, AS_IS, search, rotations)
    assert np.allclose(scores[mask], whole[mask], atol=1e-5)
    assert not scores[:, :, -3:].any()


@pytest.mark.parametrize("tilts", [(-60.0, 30.0), (-20.0, 50.0)])
def test_the_wedge_lies_where_the_microscope_measures(tilts):
    """Asymmetric tilt ranges tell the sign."""
    from cryovox.simulate.config.microscope import DetectorConfig, OpticsConfig, TiltConfig
    from cryovox.simulate.microscope.tilts import tilt_scheme
    from cryovox.simulate.stream.transfer import transfer_function

    config = TiltConfig(range=tilts, step=2.0)
    series = tilt_scheme(config, np.random.default_rng(0))
    box = 27
    transfer = transfer_function((box,) * 3, 10.0, series, OpticsConfig(), DetectorConfig())
    power, wedge = transfer.noise**2, missing_wedge(box, tilts)
    assert power[wedge == 0].sum() < 1e-3 * power.sum()
    assert (power[wedge == 1] > 0).mean() > 0.75


def test_a_tilt_about_x_is_a_tilt_about_y_rotated():
    """Networks rotate tomograms of a tilt about x by 90°; so do templates."""
    about_y, about_x = (
        np.fft.irfftn(missing_wedge(15, (-50, 30), axis), s=(15,) * 3, axes=(0, 1, 2)) for axis in "yx"
    )
    rotated = np.rot90(np.fft.fftshift(about_x), axes=(-2, -1))
    assert np.allclose(rotated, np.fft.fftshift(about_y), atol=2e-3)


def test_whitening_flattens_the_spectrum():
    rng = np.random.default_rng(0)
    smooth = np.fft.irfftn(
        np.fft.rfftn(rng.standard_normal((24, 27, 30))) / (0.05 + matching_radius()),
        s=(24, 27, 30),
        axes=(0, 1, 2),
    )
    table = template_filters.whitening(smooth.astype(np.float32), 15)
    radius = template_filters.radial_frequency(15)
    expected = 0.05 + radius
    inside = (radius > 0.1) & (radius < 0.45)
    ratio = table[inside] / expected[inside]
    assert ratio.std() / ratio.mean() < 0.1


def matching_radius():
    z, y, x = np.fft.fftfreq(24), np.fft.fftfreq(27), np.fft.rfftfreq(30)
    return np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)


def test_noise_has_the_spectrum_of_the_tomogram_and_nothing_else(image):
    noise = phase_noise.phase_randomized(image, np.random.default_rng(1))
    ratio = np.abs(np.fft.rfftn(noise))[1:6, 1:8, 1:10] / np.abs(np.fft.rfftn(image))[1:6, 1:8, 1:10]
    assert np.allclose(ratio, 1, atol=1e-3)
    assert abs(np.corrcoef(noise.ravel(), image.ravel())[0, 1]) < 0.1


@pytest.mark.gpu  # benchmarks/gpu/README.md lists the run that has one
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA; `make test` leaves gpu tests out")
@pytest.mark.parametrize("whitens", [False, True])
def test_a_gpu_finds_the_same_scores(image, whitens):
    radius = 2.2
    whitening = template_filters.whitening(image, filter_box(radius)) if whitens else None
    search, rotations = template(whitening, radius), Rotation.random(9, random_state=0).as_matrix()
    ours, theirs = (
        match(image, AS_IS, search, rotations, block_voxels=4096, device=kind)[0] for kind in ("cuda", "cpu")
    )
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize("count", [2, 3, 50])
def test_shares_of_the_rotations_give_the_bytes_of_one_search(image, tmp_path, monkeypatch, count):
    monkeypatch.setattr(matching, "BATCH_VOXELS", {"cpu": 1 << 14})
    search, rotations = template(radius=2.2), Rotation.random(23, random_state=0).as_matrix()
    whole = match(image, AS_IS, search, rotations, block_voxels=4096)
    parts = UnfinishedParts(tmp_path / "parts")
    shares = [number for number in range(count) if number != count - 1]  # one is lost
    for number in reversed(shares):
        match_share(image, AS_IS, search, rotations, parts, (number, count), block_voxels=4096)
    assert parts.names("block-")
    searched = []
    run = matching.BlockSearch.run
    monkeypatch.setattr(
        matching.BlockSearch, "run",
        lambda self, r, start, stop: searched.append(stop - start) or run(self, r, start, stop),
    )  # fmt: skip
    shared = match(image, AS_IS, search, rotations, block_voxels=4096, parts=parts)
    assert all(np.array_equal(a, b) for a, b in zip(shared, whole, strict=True))
    blocks = len(plan_blocks(SHAPE, search.margin, 4096))
    assert 0 < sum(searched) < blocks * len(rotations) * (0.7 if count == 2 else 0.5)
