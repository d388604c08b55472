import json

import numpy as np
import pytest
import torch

from cryovox.core.errors import RequestError
from cryovox.core.intensity import Normalization
from cryovox.core.volume import Volume
from cryovox.filters.bilateral import bilateral
from cryovox.filters.noise import low_pass
from cryovox.formats import read_volume, write_volume
from cryovox.workflows.config import DenoiseConfig
from cryovox.workflows.denoise import denoise, denoise_into

METHODS = ["ibf", "bf", "ngm"]
WHOLE = {
    "ibf": bilateral,
    "bf": lambda x: bilateral(x, by="intensity"),
    "ngm": low_pass,
}


def noisy(shape=(13, 12, 11), seed=0):
    """A ball in noise, in gray values of a camera."""
    rng = np.random.default_rng(seed)
    middle = (np.array(shape) - 1) / 2
    distance = np.sqrt(((np.indices(shape).T - middle) ** 2).sum(-1)).T
    return (900 - 80 * (distance < 4) + 25 * rng.standard_normal(shape)).astype(np.float32)


def filtered(data, **settings):
    out = np.full(data.shape, np.nan, np.float32)
    scale = Normalization(float(data.mean()), float(data.std()))
    removed = denoise_into(out, Volume(data, 10.0), scale, DenoiseConfig(**settings))
    return out, removed


@pytest.fixture
def tomogram(tmp_path):
    path = tmp_path / "tomograms" / "tomo.mrc"
    write_volume(path, Volume(noisy(), 7.5, (1.0, 2.0, 3.0)))
    return path


@pytest.mark.parametrize("method", METHODS)
def test_the_whole_volume_is_filtered_as_if_at_once(method):
    data = noisy()
    denoised, removed = filtered(data, method=method)
    scaled = torch.from_numpy((data - data.mean()) / data.std())[None, None]
    wanted = WHOLE[method](scaled)[0, 0].numpy()
    assert np.allclose((denoised - data.mean()) / data.std(), wanted, atol=1e-5)
    assert removed == pytest.approx(np.std(scaled[0, 0].numpy() - wanted), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slab", [1, 2, 5, 12])
def test_the_height_of_slabs_does_not_matter(method, slab):
    data = noisy()
    once, cut = (filtered(data, method=method, slab=n)[0] for n in (100, slab))
    assert (
        np.abs(once - cut).max() < 1e-5 * data.std() + 1e-4
    )  # 1e-4: the last digit of gray values near 1000


@pytest.mark.parametrize("settings", [{"sigma_r": 12.0}, {"method": "bf"}, {"method": "ngm"}], ids=str)
def test_noise_goes_and_gray_values_stay(settings):
    data = noisy((20, 20, 20))
    distance = np.sqrt(((np.indices(data.shape).T - 9.5) ** 2).sum(-1)).T
    truth = 900 - 80 * (distance < 4)
    denoised, _ = filtered(data, **settings)
    assert np.abs(denoised - truth).mean() < 0.8 * np.abs(data - truth).mean()
    assert denoised.mean() == pytest.approx(data.mean(), abs=1)


def test_scale_and_sign_of_gray_values_do_not_matter():
    data = noisy()
    denoised = filtered(data)[0]
    assert np.allclose(filtered(-3 * data + 7)[0], -3 * denoised + 7, atol=1e-2)


class Watched:
    """An array that remembers the largest piece that was taken of it."""

    def __init__(self, data):
        self.data, self.shape, self.ndim, self.size, self.most = data, data.shape, 3, data.size, 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, places):
        self.most = max(self.most, self.data[places].size)
        return self.data[places]

    def __setitem__(self, places, values):
        self.data[places] = values


@pytest.mark.parametrize("method", METHODS)
def test_no_more_than_slabs_are_held(method):
    original, out = Watched(noisy((80, 30, 9))), Watched(np.full((80, 30, 9), np.nan, np.float32))
    denoise_into(out, Volume(original, 10.0), Normalization(900, 30), DenoiseConfig(method=method, slab=3))
    assert np.isfinite(out.data).all()
    assert original.most <= 9 * 30 * 9
    assert out.most <= 80 * 3 * 9


def test_outputs_and_manifest(tomogram, tmp_path):
    shares = []
    done, failed = denoise(
        [tomogram],
        tmp_path / "out",
        device="cpu",
        on_progress=lambda name, share, note="": shares.append(share),
    )
    assert not failed
    denoised, original = read_volume(tmp_path / "out" / "denoised" / "tomo.mrc"), read_volume(tomogram)
    assert (denoised.shape, denoised.voxel_size, denoised.origin) == (original.shape, 7.5, (1.0, 2.0, 3.0))
    assert denoised.data.dtype == np.float32
    assert np.array_equal(denoised.data, filtered(np.asarray(original.data))[0])
    assert shares == sorted(shares)
    assert shares[-1] == 1
    noted = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert noted["denoise"]["config"]["method"] == "ibf"
    assert noted["denoise"]["entries"]["tomo"]["key"]["settings"]["sigma_r"] == 9.8
    assert noted["denoise"]["entries"] == done


def test_whole_numbers_keep_what_lies_between_them(tmp_path):
    write_volume(tmp_path / "a.mrc", Volume(noisy().round().astype(np.int16), 7.5))
    denoise([tmp_path / "a.mrc"], tmp_path / "out", device="cpu")
    denoised = np.asarray(read_volume(tmp_path / "out" / "denoised" / "a.mrc").data)
    assert np.abs(denoised - denoised.round()).max() > 0.1


def test_what_is_done_is_not_redone_unless_something_changed(tomogram, tmp_path):
    out = tmp_path / "out"
    written = lambda: (out / "denoised" / "tomo.mrc").stat().st_mtime_ns  # noqa: E731
    denoise([tomogram], out, device="cpu")
    first = written()
    denoise([tomogram], out, DenoiseConfig(slab=3), device="cpu")
    assert written() == first
    denoise([tomogram], out, DenoiseConfig(sigma_r=0.8), device="cpu")
    second = written()
    assert second > first
    denoise([tomogram], out, DenoiseConfig(sigma_r=0.8), device="cpu", overwrite=True)
    assert written() > second


def test_an_interruption_leaves_nothing_half_written(tomogram, tmp_path):
    def stop(name, share, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise([tomogram], tmp_path / "out", DenoiseConfig(slab=2), device="cpu", on_progress=stop)
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.suffix != ".lock"]
    assert {p.parent.name for p in files} == {".tomo.unfinished"}  # slabs from which it continues
    denoise([tomogram], tmp_path / "out", DenoiseConfig(slab=2), device="cpu")
    assert not any(p.exists() for p in files)


def test_a_tomogram_is_never_replaced_by_its_result(tomogram, tmp_path):
    place = tmp_path / "out" / "denoised" / "tomo.mrc"
    write_volume(place, read_volume(tomogram))
    with pytest.raises(RequestError, match="replaced by its own result"):
        denoise([place], tmp_path / "out", overwrite=True)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN"), (0.0, "constant")], ids=["nan", "constant"])
def test_tomograms_that_cannot_be_filtered_are_refused(tmp_path, value, message):
    data = noisy() if np.isnan(value) else np.zeros((5, 5, 5), np.float32)
    data[2, 2, 2] = value
    write_volume(tmp_path / "a.mrc", Volume(data, 7.5))
    with pytest.raises(RequestError, match=message):
        denoise([tmp_path / "a.mrc"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
