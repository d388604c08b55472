import torch
from torch import nn

from cryovox.training.strategies.zsda.gradient_balance import GradientBalance, gradient_norm, gradients


class TwoHeads(nn.Module):
    """One encoder and two heads; the loss of each head is a mean square."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head, self.other = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 3)

    def losses(self, x):
        features = self.encoder(x).tanh()
        return self.head(features).square().mean(), {"weak": 1e-2 * self.other(features).square().mean()}


def network():
    torch.manual_seed(0)
    model = TwoHeads()
    model.other.requires_grad_(False)  # such a head is no part of the network
    return model, torch.randn(16, 4)


def ratio(model, main, loss):
    encoder = list(model.encoder.parameters())
    return (gradient_norm(gradients(loss, encoder)) / gradient_norm(gradients(main, encoder))).item()


def test_the_first_measurement_sets_the_ratio_on_the_shared_weights():
    model, x = network()
    main, losses = model.losses(x)
    assert ratio(model, main, losses["weak"]) < 0.1
    balanced = GradientBalance(("weak",), 0.3)(main, losses, model)
    assert abs(ratio(model, main, balanced["weak"]) - 0.3) < 1e-3


def test_the_weight_follows_a_loss_that_shrinks():
    model, x = network()
    balance = GradientBalance(("weak",), 0.3, every=1)
    for _ in range(40):
        main, losses = model.losses(x)
        balanced = balance(main, {"weak": 0.1 * losses["weak"]}, model)
    assert abs(ratio(model, main, balanced["weak"]) - 0.3) < 0.1


def test_between_measurements_the_weight_stays():
    model, x = network()
    balance = GradientBalance(("weak",), 0.3, every=3)
    weights = []
    for step in range(7):
        main, losses = model.losses(x * (step + 1))
        weights.append((balance(main, losses, model)["weak"] / losses["weak"]).item())
    assert weights[0] != weights[1] != weights[2]
    assert weights[3] == weights[4] == weights[5] != weights[6]


def test_a_loss_without_a_gradient_keeps_its_weight():
    model, x = network()
    main, _ = model.losses(x)
    losses = {"weak": torch.zeros((), requires_grad=True) * 2}
    assert GradientBalance(("weak",), 0.3)(main, losses, model)["weak"].item() == 0


def test_a_state_continues_a_training():
    model, x = network()
    main, losses = model.losses(x)
    first, second = GradientBalance(("weak",), 0.3), GradientBalance(("weak",), 0.3)
    first(main, losses, model)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(main, losses, model)["weak"], second(main, losses, model)["weak"])
