import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cryovox.data.config import AugmentConfig, PatchConfig
from cryovox.filters.config import BOUNDS, PriorConfig
from cryovox.filters.prior import randomize_appearance, spectrum_std
from cryovox.training.config import LoopConfig
from cryovox.training.strategies.config.supervised import SupervisedConfig

AXES = (1, 2, 3, 4)
CLOSED = {
    "prior_level": (0.0, 0.0),
    "prior_color": (0.0, 0.0),
    "prior_band": (2.0, 2.0),
    "prior_wedge_share": 0.0,
    "prior_ctf_share": 0.0,
    "prior_flip_share": 0.0,
    "prior_envelope_share": 0.0,
    "prior_gamma": (1.0, 1.0),
    "prior_restandardized": False,
    "prior_gain": 0.0,
    "prior_offset": 0.0,
}


def only(**parts):
    return PriorConfig(**CLOSED | {f"prior_{name}": value for name, value in parts.items()})


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spectra(x):
    return np.fft.fftn(x[:, 0].double().numpy(), axes=(1, 2, 3))


def radii(*sides):
    """Cycles per voxel of every frequency of a whole spectrum."""
    return np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, sides), indexing="ij")))


def multiplied(config, sides=(16, 12, 10), seed=0):
    """What a config without noise multiplies every frequency of some cubes with."""
    torch.manual_seed(seed)
    x = noise(4, 1, *sides).double()
    return spectra(randomize_appearance(x, config)) / spectra(x)


@pytest.mark.parametrize("sides", [(8, 8, 8), (9, 7, 5), (6, 9, 8)], ids=str)
def test_a_closed_prior_changes_nothing(sides):
    x = 3 + 2 * noise(2, 1, *sides)
    assert torch.allclose(randomize_appearance(x, only()), x, atol=1e-5)


def test_every_part_changes_something():
    x = noise(2, 1, 8, 8, 8)
    parts = {
        "level": (0.5, 0.5),
        "wedge_share": 1.0,
        "ctf_share": 1.0,
        "envelope_share": 1.0,
        "gamma": (1.2, 1.2),
        "restandardized": True,
        "gain": 0.2,
        "offset": 0.1,
    }
    for name, value in parts.items():
        assert not torch.allclose(randomize_appearance(x, only(**{name: value})), x, atol=1e-3), name


@pytest.mark.parametrize("color", [0.0, 2.0])
@pytest.mark.parametrize("band", [0.5, 2.0])
def test_noise_has_the_variance_of_its_level(color, band):
    torch.manual_seed(1)
    x = noise(8, 1, 32, 32, 32) * torch.tensor([1.0, 3.0]).repeat(4)[:, None, None, None, None]
    added = randomize_appearance(x, only(level=(0.7, 0.7), color=(color, color), band=(band, band))) - x
    assert added.mean(AXES).abs().max() < 1e-5
    found = added.std(AXES) / x.std(AXES, correction=0)
    # of power 1 / k^2 few frequencies hold most
    assert found.tolist() == pytest.approx([0.7] * 8, rel=0.1 if color else 0.02)


def test_the_level_is_that_of_the_cube_behind_the_lens():
    torch.manual_seed(1)
    x = noise(1, 1, 32, 32, 32)
    lens = {"ctf_share": 1.0, "zero": (0.2, 0.2), "phase": (5.0, 5.0)}
    seen = randomize_appearance(x, only(**lens))
    added = randomize_appearance(x, only(**lens, level=(2.0, 2.0))) - seen
    assert (added.std() / seen.std()).item() == pytest.approx(2.0, rel=0.02)


def test_levels_are_drawn_on_a_logarithmic_scale():
    torch.manual_seed(2)
    x = noise(600, 1, 8, 8, 8)
    added = randomize_appearance(x, only(level=(0.1, 10.0))) - x
    found = np.log10((added.std(AXES) / x.std(AXES)).numpy())
    assert -1.1 < found.min() < -0.9
    assert 0.9 < found.max() < 1.1
    shares = np.histogram(found, (-1.2, -0.5, 0, 0.5, 1.2))[0] / 600
    assert np.allclose(shares, 0.25, atol=0.06)


@pytest.mark.parametrize("color", [-1.0, 0.0, 1.5])
def test_the_spectrum_of_the_noise_falls_with_the_color(color):
    torch.manual_seed(3)
    x = noise(8, 1, 32, 32, 32)
    added = randomize_appearance(x, only(level=(1.0, 1.0), color=(color, color))) - x
    power, shells = (np.abs(spectra(added)) ** 2).mean(0), np.round(32 * radii(32, 32, 32)).astype(int)
    radius = np.arange(2, 17)
    mean = [power[shells == s].mean() for s in radius]
    slope = np.polyfit(np.log(radius), np.log(mean), 1, w=radius)[0]  # wide shells are more certain
    assert slope == pytest.approx(-color, abs=0.04)


def test_above_the_band_there_is_no_noise():
    torch.manual_seed(4)
    x = noise(2, 1, 16, 16, 15)
    added = np.abs(spectra(randomize_appearance(x, only(level=(1.0, 1.0), band=(0.6, 0.6))) - x))
    inside = radii(16, 16, 15) <= 0.3
    assert added[:, ~inside].max() < 1e-3
    inside[0, 0, 0] = False
    assert (added[:, inside] > 1e-3).mean() > 0.99


def test_a_band_without_frequencies_adds_nothing():
    x = noise(1, 1, 8, 8, 8)
    assert torch.allclose(randomize_appearance(x, only(level=(1.0, 1.0), band=(0.05, 0.05))), x, atol=1e-5)


def seen_of(tilt, *sides):
    kz, _, kx = np.meshgrid(*map(np.fft.fftfreq, sides), indexing="ij")
    return np.degrees(np.arctan2(np.abs(kz), np.abs(kx))) <= tilt + 1e-3


@pytest.mark.parametrize("tilt", [40.0, 45.0, 63.0])
@pytest.mark.parametrize("sides", [(16, 12, 10), (15, 8, 15), (16, 16, 16)], ids=str)
def test_the_wedge_is_empty_and_nothing_else(tilt, sides):
    factors = multiplied(only(wedge=(tilt, tilt), wedge_share=1.0), sides)
    assert np.allclose(factors, seen_of(tilt, *sides), atol=1e-5)


def test_noise_does_not_fill_the_wedge():
    x = noise(2, 1, 16, 16, 16)
    config = only(level=(1.0, 1.0), wedge=(50.0, 50.0), wedge_share=1.0, envelope_share=1.0, ctf_share=1.0)
    found, seen = np.abs(spectra(randomize_appearance(x, config))), seen_of(50.0, 16, 16, 16)
    assert found[:, ~seen].max() < 1e-3 < found[:, seen].mean()


def test_the_envelope_is_a_gaussian_for_signal_and_noise():
    low = {"envelope": (0.5, 0.5), "envelope_share": 1.0}
    wanted = 0.5 ** (radii(16, 12, 10) / 0.25) ** 2
    assert np.allclose(multiplied(only(**low)), wanted, atol=1e-5)
    x = noise(4, 1, 16, 12, 10).double()
    torch.manual_seed(5)
    plain = randomize_appearance(x, only(level=(1.0, 1.0)))
    torch.manual_seed(5)
    found = randomize_appearance(x, only(level=(1.0, 1.0), **low))
    assert np.allclose(spectra(found), spectra(plain) * wanted, atol=1e-4)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_contrast_is_positive_up_to_the_first_zero(flip):
    lens = {"ctf_share": 1.0, "zero": (0.25, 0.25), "phase": (30.0, 30.0), "flip_share": flip}
    factors, r = multiplied(only(**lens), (16, 16, 16)).real, radii(16, 16, 16)
    assert factors[:, 0, 0, 0] == pytest.approx(np.sin(np.pi / 6), abs=1e-5)
    assert factors[:, 4, 0, 0] == pytest.approx(0, abs=1e-5)
    assert (factors[:, r < 0.24] > 0).all()
    just_behind = factors[:, (r > 0.26) & (r < 0.33)]
    assert (just_behind > 0).all() if flip else (just_behind < 0).all()
    assert np.abs(factors).max() <= 1 + 1e-5


def test_a_bright_particle_stays_bright():
    torch.manual_seed(6)
    distance = torch.from_numpy(radii(16, 16, 16) * 16).float()
    x = torch.exp(-(distance**2) / 8).expand(64, 1, 16, 16, 16)
    x = (x - x.mean(AXES, keepdim=True)) / x.std(AXES, keepdim=True)
    found = randomize_appearance(x, PriorConfig(prior_level=(0.0, 0.0)))
    assert (found[:, 0, 0, 0, 0] > found.flatten(1).mean(1) + 2 * found.flatten(1).std(1)).all()


@pytest.mark.parametrize("part", ["wedge", "ctf", "envelope"])
def test_parts_meet_their_share_of_cubes(part):
    torch.manual_seed(7)
    x = noise(400, 1, 6, 6, 6)
    changed = (randomize_appearance(x, only(**{f"{part}_share": 0.3})) - x).abs().amax(AXES) > 1e-4
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("gamma", [0.6, 1.0, 1.7])
def test_gamma_keeps_order_and_is_a_power(gamma):
    x = noise(2, 1, 8, 8, 8).double()
    x = (x - x.mean(AXES, keepdim=True)) / x.std(AXES, correction=0, keepdim=True)
    moved = 5 + 2 * x
    found = (randomize_appearance(moved, only(gamma=(gamma, gamma))) - 5) / 2
    assert torch.allclose(found, x.sign() * x.abs() ** gamma, atol=1e-4)
    for before, after in zip(x, found, strict=True):
        assert (after.flatten()[before.flatten().argsort()].diff() >= 0).all()


def test_cubes_are_restandardized_before_gain_and_offset():
    torch.manual_seed(8)
    x = 4 + 3 * noise(200, 1, 8, 8, 8)
    found = randomize_appearance(x, PriorConfig(prior_gain=0.0, prior_offset=0.0))
    assert torch.allclose(found.mean(AXES), torch.zeros(200), atol=1e-4)
    assert torch.allclose(found.std(AXES, correction=0), torch.ones(200), atol=1e-4)
    found = randomize_appearance(x, PriorConfig(prior_gain=0.3, prior_offset=0.5))
    mean, deviations = found.mean(AXES), found.std(AXES, correction=0)
    assert -0.5 <= mean.min() < -0.4 < 0.4 < mean.max() <= 0.5
    assert 0.699 <= deviations.min() < 0.75 < 1.25 < deviations.max() <= 1.301


def test_samples_differ_and_seeds_determine():
    x = noise(1, 1, 12, 12, 12).expand(4, 1, 12, 12, 12)
    torch.manual_seed(9)
    first = randomize_appearance(x, PriorConfig())
    second = randomize_appearance(x, PriorConfig())
    torch.manual_seed(9)
    assert torch.equal(randomize_appearance(x, PriorConfig()), first)
    assert not torch.equal(first, second)
    lenses = multiplied(only(wedge_share=1.0, ctf_share=1.0, envelope_share=1.0))
    for one in range(4):
        for other in range(one):
            assert not torch.allclose(first[one], first[other], atol=0.1)
            assert not np.allclose(lenses[one], lenses[other], atol=0.01)


@pytest.mark.parametrize("sides", [(8, 8, 8), (7, 6, 9)], ids=str)
def test_the_deviation_of_a_spectrum_is_that_of_the_cube(sides):
    x = 3 + 2 * noise(3, 1, *sides).double()
    found = spectrum_std(torch.fft.rfftn(x, dim=(2, 3, 4)), x)
    assert torch.allclose(found.flatten(), x.std(AXES, correction=0))


def test_constant_cubes_do_no_harm():
    found = randomize_appearance(torch.full((2, 1, 8, 8, 8), 7.0), PriorConfig())
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtype_is_kept(dtype):
    found = randomize_appearance(noise(2, 1, 7, 8, 9).to(dtype), PriorConfig())
    assert (found.dtype, found.shape) == (dtype, (2, 1, 7, 8, 9))


def test_autocast_makes_no_difference():
    x = noise(2, 1, 8, 8, 8)
    torch.manual_seed(10)
    wanted = randomize_appearance(x, PriorConfig())
    torch.manual_seed(10)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(randomize_appearance(x, PriorConfig()), wanted)


@pytest.mark.parametrize("name", sorted(BOUNDS))
@pytest.mark.parametrize("ends", [(0.9, 0.8), (-9.0, 1.0), (1.0, 1000.0)], ids=str)
def test_impossible_ranges_are_refused(name, ends):
    with pytest.raises(ValidationError, match="ascending order within"):
        PriorConfig(**{name: ends})


def test_a_logarithmic_scale_has_no_zero():
    with pytest.raises(ValidationError, match="only 0 0"):
        PriorConfig(prior_level=(0.0, 1.0))


@pytest.mark.parametrize("other", [PatchConfig, AugmentConfig, LoopConfig, SupervisedConfig])
def test_options_are_told_apart_from_those_of_other_parts(other):
    assert not PriorConfig.model_fields.keys() & other.model_fields.keys()


@pytest.mark.gpu
def test_an_accelerator_gives_the_same():
    x = noise(3, 1, 9, 8, 8)
    config = only(
        wedge=(50.0, 50.0), wedge_share=1.0, ctf_share=1.0, zero=(0.3, 0.3), phase=(9.0, 9.0),
        envelope=(0.8, 0.8), envelope_share=1.0, gamma=(1.2, 1.2), restandardized=True,
    )  # fmt: skip
    assert torch.allclose(
        randomize_appearance(x.cuda(), config).cpu(), randomize_appearance(x, config), atol=1e-4
    )
    assert randomize_appearance(x.cuda(), PriorConfig()).device.type == "cuda"
