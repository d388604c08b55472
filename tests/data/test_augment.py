from itertools import product

import numpy as np
import pytest
from scipy import fft

from cryovox.data.augment import HALF_TURNS, WEDGE_SYMMETRIES, augment
from cryovox.data.config import AugmentConfig
from cryovox.data.patches import Patch
from cryovox.data.targets import gaussian_heatmap

STILL = AugmentConfig(contrast=0, brightness=0, noise=0, blur=0, cut=0)
Z, Y, X = -3, -2, -1


def measured(n: int = 15) -> np.ndarray:
    """Frequencies that tilts within 60 degrees about y have measured, centered; n is odd."""
    k = fft.fftshift(fft.fftfreq(n))
    seen = np.abs(k)[:, None, None] <= np.abs(k)[None, None, :] * np.tan(np.deg2rad(60)) + 1e-9
    return np.broadcast_to(seen, (n, n, n))


def matrix(axes: tuple[int, ...]) -> np.ndarray:
    return np.diag([-1 if axis in axes else 1 for axis in (Z, Y, X)])


@pytest.mark.parametrize("axes", WEDGE_SYMMETRIES)
def test_the_wedge_keeps_its_place_under_every_symmetry(axes):
    assert np.array_equal(np.flip(measured(), axes), measured())


def test_the_spectrum_of_a_flipped_image_stays_out_of_the_wedge():
    # a half turn about x is the flip of z and y: what is flipped here is the image, not the mask
    rng = np.random.default_rng(0)
    spectrum = fft.fftshift(fft.fftn(rng.standard_normal((15, 15, 15)))) * measured()
    image = fft.ifftn(fft.ifftshift(spectrum)).real
    for axes in WEDGE_SYMMETRIES:
        again = fft.fftshift(fft.fftn(np.flip(image, axes)))
        assert np.abs(again[~measured()]).max() < 1e-9
    turned = fft.fftshift(fft.fftn(np.rot90(image, axes=(Y, X))))
    assert np.abs(turned[~measured()]).max() > 1


@pytest.mark.parametrize("plane", [(Y, X), (Z, X)])
def test_a_quarter_turn_moves_the_wedge(plane):
    assert not np.array_equal(np.rot90(measured(), axes=plane), measured())


def test_the_eight_are_a_group():
    assert len(set(WEDGE_SYMMETRIES)) == 8
    assert () in WEDGE_SYMMETRIES
    whole = {matrix(axes).tobytes() for axes in WEDGE_SYMMETRIES}
    for a, b in product(WEDGE_SYMMETRIES, repeat=2):
        assert (matrix(a) @ matrix(b)).tobytes() in whole


def test_half_turns_keep_handedness_and_are_closed():
    assert len(HALF_TURNS) == 4
    for axes in WEDGE_SYMMETRIES:
        assert (np.linalg.det(matrix(axes)) > 0) == (axes in HALF_TURNS)
    whole = {matrix(axes).tobytes() for axes in HALF_TURNS}
    assert all((matrix(a) @ matrix(b)).tobytes() in whole for a, b in product(HALF_TURNS, repeat=2))


def marked(stride: int) -> Patch:
    """A Gaussian off center in the image, and its heatmap."""
    at = np.array([5.5, 9.5, 2.5])
    image = gaussian_heatmap(at[None], 2.0, (16, 16, 16))
    n = 16 // stride
    target = gaussian_heatmap(((at - (stride - 1) / 2) / stride)[None], 1.0, (n, n, n))[None]
    known = np.ones(target.shape, bool)
    known[:, 0, 1, 2] = False
    return Patch(image, target, known)


def center(weights: np.ndarray) -> np.ndarray:
    grid = np.indices(weights.shape).reshape(3, -1)
    return (grid * weights.ravel()).sum(1) / weights.sum()


@pytest.mark.parametrize("stride", [1, 2])
def test_image_and_heatmap_move_together_under_every_flip(stride):
    seen = set()
    for seed in range(60):
        out = augment(marked(stride), STILL, np.random.default_rng(seed))
        place = tuple(np.unravel_index(out.image.argmax(), out.image.shape))
        seen.add(place)
        peak = np.array(np.unravel_index(out.target[0].argmax(), out.target[0].shape))
        assert np.abs(stride * peak + (stride - 1) / 2 - place).max() <= stride / 2 + 0.5
        sharp = np.where(out.image > 0.6, out.image, 0)
        fine = np.where(out.target[0] > 0.3, out.target[0], 0)
        assert np.abs(stride * center(fine) + (stride - 1) / 2 - center(sharp)).max() < 0.35
        # what is unknown moves as the target does
        unknown = np.argwhere(~out.valid_mask[0])[0]
        n = 16 // stride
        flipped = [int(peak[i] > n / 2 - 0.5) for i in range(3)]
        was = [int(5.5 > 7.5), int(9.5 > 7.5), int(2.5 > 7.5)]
        wanted = [n - 1 - i if f != w else i for i, f, w in zip((0, 1, 2), flipped, was, strict=True)]
        assert unknown.tolist() == wanted
    assert len(seen) == 8


def test_without_mirrors_only_half_turns_are_drawn():
    config = STILL.model_copy(update={"mirrors": False})
    given = marked(1)
    seen = set()
    for seed in range(40):
        out = augment(given, config, np.random.default_rng(seed)).image
        seen |= {axes for axes in WEDGE_SYMMETRIES if np.array_equal(np.flip(given.image, axes), out)}
    assert seen == set(HALF_TURNS)


def test_without_flips_nothing_moves():
    config = STILL.model_copy(update={"flips": False})
    given = marked(2)
    out = augment(given, config, np.random.default_rng(1))
    assert np.array_equal(out.image, given.image)
    assert np.array_equal(out.target, given.target)


def test_gray_values_change_within_their_bounds_and_annotation_does_not():
    config = AugmentConfig(flips=False, contrast=0.2, brightness=0.1, noise=0, blur=0, cut=0)
    given = Patch(np.ones((4, 4, 4), np.float32), np.full((4, 4, 4), 3, np.uint8), np.ones((4, 4, 4), bool))
    values = [augment(given, config, np.random.default_rng(s)).image.mean() for s in range(200)]
    assert 0.7 <= min(values) < 0.8
    assert 1.2 < max(values) <= 1.3
    noisy = augment(given, AugmentConfig(flips=False, cut=0), np.random.default_rng(0))
    assert np.array_equal(noisy.target, given.target)
    assert noisy.image.dtype == np.float32
    assert noisy.image.std() > 0


@pytest.mark.parametrize("kind", ["mask", "heatmap"])
def test_a_cut_patch_has_a_face_with_nothing_and_no_target_beyond(kind):
    rng, stride = np.random.default_rng(3), 1 if kind == "mask" else 2
    image = rng.standard_normal((24, 24, 24)).astype(np.float32) + 5
    shape = (24 // stride,) * 3
    target = (
        rng.integers(0, 3, shape).astype(np.uint8) if kind == "mask" else np.ones((2, *shape), np.float32)
    )
    given = Patch(image.copy(), target.copy(), np.ones(target.shape, bool))
    config = STILL.model_copy(update={"flips": False, "cut": 1.0})
    faces = set()
    for _ in range(60):
        got = augment(given, config, rng)
        empty = got.image == 0
        # the empty part is a slab at one face, in whole voxels of the output, at most a third of the patch
        (axis,) = [a for a in range(3) if not empty.all(tuple(b for b in range(3) if b != a)).all()
                   and empty.all(tuple(b for b in range(3) if b != a)).any()]  # fmt: skip
        line = empty.all(tuple(b for b in range(3) if b != axis))
        assert np.array_equal(empty, np.moveaxis(np.broadcast_to(line, (24, 24, 24)), -1, axis))
        assert line[0] != line[-1]
        assert np.count_nonzero(np.diff(line.astype(int))) == 1
        assert 0 < line.sum() <= 8
        assert line.sum() % stride == 0
        faces.add((axis, bool(line[0])))
        unknown = np.broadcast_to(empty[::stride, ::stride, ::stride], target.shape)
        assert np.array_equal(~got.valid_mask, unknown)
        assert np.array_equal(got.image[~empty], image[~empty])
        assert np.array_equal(got.target[got.valid_mask], target[got.valid_mask])
        if kind == "mask":
            assert (got.target[unknown] == 255).all()
    assert len(faces) == 6
    assert np.array_equal(given.image, image)
    assert np.array_equal(given.target, target)
