import warnings

import numpy as np
import pytest
from scipy import ndimage

from cryovox.core.errors import DataWarning, RequestError
from cryovox.core.placement import check_density, check_positions, check_radius, density_t_statistic
from cryovox.core.volume import Volume

EMPTY = Volume(np.broadcast_to(np.int8(0), (100, 200, 300)), 10.0)


def test_what_fits_passes_in_silence():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 1, (50, 3)) * np.array(EMPTY.shape) * 10 - 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_positions("a.csv", places, EMPTY)
        check_positions("a.csv", np.zeros((0, 3)), EMPTY)
        check_positions("a.csv", np.array([[50.0, 50.0, 50.0]]), EMPTY)  # one may lie in the corner
        check_positions("a.csv", np.array([[-30.0, 900.0, 900.0]]), EMPTY, 40.0)  # a face cuts it


def test_voxels_read_as_angstrom():
    voxels = np.random.default_rng(0).uniform(0, 1, (9, 3)) * np.array(EMPTY.shape) - 0.5
    with pytest.raises(RequestError, match=r"9 positions .* look like voxels") as caught:
        check_positions("a.csv", np.rint(voxels), EMPTY)
    assert "--voxel-size 10" in caught.value.remedy
    with pytest.warns(DataWarning, match=r"a\.csv: 9 positions .*--voxel-size 10"):
        check_positions("a.csv", voxels, EMPTY)
    whole = Volume(EMPTY.data, 1.0)  # then voxels are Å
    check_positions("a.csv", np.rint(voxels), whole)


def test_places_outside():
    places = np.array([[100.0, 100.0, 100.0], [500.0, 900.0, 900.0], [25038.0, 10.0, 10.0]])
    with pytest.warns(DataWarning, match=r"1 of 3 picks lie outside.*z 25038\.0 Å; it extends to x 2995\.0"):
        check_positions("a.csv", places, EMPTY)
    with pytest.raises(RequestError, match="2 of 3"):
        check_positions("a.csv", places[[0, 2, 2]], EMPTY)
    with pytest.raises(RequestError, match="3 of 3") as caught:
        check_positions("a.csv", np.array([[2500.0, 1000.0, 900.0]] * 3), EMPTY)
    assert "x and z look swapped" in caught.value.remedy


def test_a_radius_below_a_voxel():
    check_radius("dataset.yaml", "a", 10.0, 10.0)
    with pytest.raises(RequestError, match="radius of a is 9 Å, less than a voxel of 10 Å"):
        check_radius("dataset.yaml", "a", 9.0, 10.0)


def balls(sign):
    """A noisy volume with 36 balls of radius 50 Å, and their centers in Å."""
    places = np.array([[12, 15 + 18 * i, 15 + 18 * j] for i in range(6) for j in range(6)])
    data = np.zeros((24, 120, 120))
    data[tuple(places.T)] = 200
    noise = np.random.default_rng(0).normal(0, 1, data.shape)
    return Volume(sign * ndimage.gaussian_filter(data, 2.5) + noise, 10.0), places * 10.0


@pytest.mark.parametrize("sign", [-1, 1])
def test_density_at_the_places(sign):
    volume, places = balls(sign)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_density("a.csv", places, volume, 50.0)
    assert sign * density_t_statistic(places, volume, 50.0) > 10
    anywhere = np.random.default_rng(1).uniform(0.2, 0.8, (40, 3)) * np.array(volume.shape) * 10
    with pytest.warns(DataWarning, match=r"density at the 40 positions .* units, the order of x, y and z"):
        check_density("a.csv", anywhere, volume, 50.0)
    assert density_t_statistic(places[:19], volume, 50.0) is None
    assert density_t_statistic(np.zeros((0, 3)), volume, 50.0) is None
