"""A network that finds in images what it finds in noise is found out; one that finds particles is not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cryovox.filters.power_matching import power_spectrum
from cryovox.training.evaluation.model_selection import RULE
from cryovox.training.evaluation.noise_test import MIN_IMAGES, noise_like, noise_p_value

SIDE = 16


class Bright(nn.Module):
    """Calls foreground what is bright after a blur: blobs, and as many blobs of noise as there are."""

    def __init__(self, at=1.5):
        super().__init__()
        self.at, self.scale = at, nn.Parameter(torch.ones(()))

    def forward(self, x):
        found = 20 * self.scale * (F.avg_pool3d(x, 3, 1, 1) - self.at)
        return torch.cat([torch.zeros_like(found), found], 1)


def noise(n, seed=0, color=1):
    wide = SIDE + color - 1  # so that no border is left
    x = torch.randn(n, 1, wide, wide, wide, generator=torch.Generator().manual_seed(seed))
    x = F.avg_pool3d(x, color, 1)
    return x / x.std()


def asked(images, network=None):
    return noise_p_value((network or Bright(0.5)).eval(), images, activation="softmax", device="cpu")


@pytest.mark.parametrize("count", [48, 256])
@pytest.mark.parametrize("color", [1, 3, 5])
def test_noise_is_what_noise_is_whatever_its_color(color, count):
    found = [asked(noise(count, seed, color)) for seed in range(8)]
    assert sum(p <= RULE.significance for p in found) <= 2  # a twentieth is wanted
    assert sorted(found)[4] > 0.1


def test_particles_are_told_from_noise_of_their_power():
    images = noise(48)
    images[:, :, 5:10, 6:11, 4:9] += 2
    images = images / images.std()
    assert asked(images) < 1e-4


def test_a_network_that_finds_nothing_finds_it_in_noise_too():
    images = noise(48)
    images[:, :, 5:10, 6:11, 4:9] += 2
    assert asked(images, Bright(at=1e3)) > 0.1  # all amounts are zero


def test_few_images_are_refused():
    with pytest.raises(ValueError, match="15 images are too few"):
        asked(noise(MIN_IMAGES - 1))
    assert 0 <= asked(noise(MIN_IMAGES)) <= 1


def test_the_noise_has_the_power_the_mean_and_the_spread_of_the_images():
    images = 5 + torch.linspace(1, 3, 64)[:, None, None, None, None] * noise(64, color=3)
    made = noise_like(images)
    assert torch.equal(made, noise_like(images))
    axes = (1, 2, 3, 4)
    torch.testing.assert_close(made.mean(axes), images.mean(axes))
    torch.testing.assert_close(made.std(axes), images.std(axes))
    found, wanted = (power_spectrum(x / x.std(axes, keepdim=True)) for x in (made, images))
    strong = wanted > wanted.mean()  # where there is little, what leaks through the window is seen twice
    assert (found / wanted)[strong].median().item() == pytest.approx(1, abs=0.15)


def test_the_numbers_drawn_elsewhere_are_left_alone():
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    noise_like(noise(4))
    assert torch.equal(torch.rand(3), wanted)
