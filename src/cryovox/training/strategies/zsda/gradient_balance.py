"""Running weights that hold the gradients of further losses at a fraction of that of the main loss.

GradNorm (Z. Chen et al., ICML 2018) trains such weights. Here they follow from the measured ratio, as the
weight of the adversarial loss does in VQGAN (P. Esser et al., CVPR 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

EVERY = 20
"""Steps between two measurements, each of which costs one backward pass of every loss. As many first steps
are all measured, since the ratio changes fast."""
DECAY = 0.5
"""Of the running mean of the logarithms of the weights."""
MAX_WEIGHT = 1e3
"""Largest weight, for a loss that is nearly 0."""


class GradientBalance(nn.Module):
    """Weigh losses such that their gradients have a norm of *share* of that of the main loss.

    The norms are those on the weights that a loss reaches, the encoder for a loss of its features.

    Parameters
    ----------
    names
        Of the losses.
    share
        Norm of the gradient of each weighted loss, relative to the main loss.
    every
        Steps between two measurements, and number of first steps that are all measured.
    """

    log_weights: Tensor
    step: Tensor

    def __init__(self, names: Sequence[str], share: float, every: int = EVERY) -> None:
        super().__init__()
        self.names, self.share, self.every = tuple(names), share, every
        self.register_buffer("log_weights", torch.zeros(len(self.names)))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, main: Tensor, losses: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """The losses with their weights.

        Parameters
        ----------
        main
            Scalar loss with which the others are compared.
        losses
            Scalar losses, of some or all of the names.
        network
            Its weights count.
        """
        step = int(self.step)
        if losses and (step < self.every or step % self.every == 0):
            decay = DECAY if step else 0.0
            for name, weight in balanced_weights(main, losses, network, self.share).items():
                at = self.names.index(name)
                self.log_weights[at] = decay * self.log_weights[at] + (1 - decay) * weight.log()
        self.step += 1
        weights = self.log_weights.exp()
        return {name: weights[self.names.index(name)] * loss for name, loss in losses.items()}


def balanced_weights(
    main: Tensor, losses: Mapping[str, Tensor], network: nn.Module, share: float
) -> dict[str, Tensor]:
    """Weight of each loss by the gradients of this step; a loss without a gradient has none."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    of_main = gradients(main, parameters)
    weights = {}
    for name, loss in losses.items():
        own = gradients(loss, parameters)
        reached = [i for i, gradient in enumerate(own) if gradient is not None]
        norm, main_norm = (gradient_norm([part[i] for i in reached]) for part in (own, of_main))
        if norm > 0 and main_norm > 0:
            weights[name] = (share * main_norm / norm).clamp(max=MAX_WEIGHT)
    return weights


def gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> tuple[Tensor | None, ...]:
    """Gradient of a loss on each parameter, None where it does not reach; the graph is kept."""
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)


def gradient_norm(parts: Sequence[Tensor | None]) -> Tensor:
    """Euclidean norm of all parts together."""
    squares = [part.float().square().sum() for part in parts if part is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
