import torch
from torch import nn
from torch.nn import functional as F

from cryovox.models.networks.edss3d import EDSS3D


def test_five_convolutions_two_poolings_two_enlargements_and_no_skip():
    torch.manual_seed(0)
    network = EDSS3D(1, 2, width=4).eval()
    x = torch.randn(1, 1, 8, 4, 12)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    *inner, last = convolutions
    assert len(inner) == 5
    with torch.no_grad():
        found = x
        for number, convolve in enumerate(inner):
            found = convolve(found).relu()
            found = F.max_pool3d(found, 2) if number < 2 else found
            found = F.interpolate(found, scale_factor=2.0) if number in (2, 3) else found
        assert torch.equal(last(found), network(x))
