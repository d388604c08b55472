"""Whether training a network gains by bfloat16 on this machine, measured in about two seconds."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from cryovox.inference.precision import SECONDS, Comparison, machine_name, remembered, speed_ratio
from cryovox.inference.stream import activate
from cryovox.models.card import Card
from cryovox.models.memory_format import use_channels_last
from cryovox.models.supervision import supervise

Precision = Literal["32-true", "bf16-mixed"]


def compare_training(
    network: nn.Module, images: Tensor, activation: str, seconds: float = SECONDS
) -> Comparison:
    """Train copies of a network on noise in both precisions, in turn, for about that many seconds.

    Parameters
    ----------
    network
        Left as it is.
    images : (b, 1, z, y, x)
        A batch, on the device that trains.
    activation
        From logits to scores, whose largest difference counts.
    """
    device = images.device
    student = copy.deepcopy(network).to(device).train()
    use_channels_last(student, device)

    def step(bf16: bool) -> Tensor:
        student.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            output = supervise(student, images)
            terms = [*output.logits.values(), *output.extra.values()]
            loss = torch.stack([term.float().square().mean() for term in terms]).sum()
        loss.backward()
        return activate(output.prediction.detach(), activation)

    full, rounded = step(False), step(True)
    difference = float((full - rounded).abs().max())
    gain = speed_ratio(lambda: step(False), lambda: step(True), device, seconds)
    return Comparison(gain, round(difference, 5) if difference == difference else float("inf"))


def training_precision(
    network: nn.Module,
    card: Card,
    batch: int,
    device: str,
    measure: Callable[[nn.Module, Tensor, str], Comparison] = compare_training,
) -> Precision:
    """The precision that trains a network faster, remembered for this machine, network, patch and batch."""
    facts = [card.network, card.options, card.out_channels, card.patch, batch]
    key = "|".join(["training", json.dumps(facts, sort_keys=True), machine_name(torch.device(device))])

    def measured() -> Comparison:
        with torch.random.fork_rng():
            images = torch.randn(batch, card.in_channels, *(card.patch,) * 3, device=device)
            return measure(network, images, card.activation)

    return "bf16-mixed" if remembered(key, measured).bf16 else "32-true"
