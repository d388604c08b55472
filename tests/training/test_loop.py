import csv
import math
import os
import signal
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from cryovox.core import interrupt
from cryovox.core.errors import RequestError
from cryovox.data.streams import Batch
from cryovox.training import loop
from cryovox.training.config import LoopConfig
from cryovox.training.logbook import Logbook
from cryovox.training.loop import fit, hash_seed, share, validation_due
from cryovox.training.state import NAME, Progress, load_state, save_state
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.supervised import Supervised

torch.set_num_threads(1)


class Net(nn.Module):
    kind = "mask"

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        layers = [nn.BatchNorm3d(4), nn.Dropout3d(0.25)] if norm else []
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), *layers, nn.ReLU(), nn.Conv3d(4, 2, 1))

    def forward(self, x):
        return self.body(x)


class Balls:
    """Batches that depend on their number alone."""

    def __init__(self, size: int = 2) -> None:
        self.size, self.asked = size, []

    def batch(self, number: int) -> Batch:
        self.asked.append(number)
        g = torch.Generator().manual_seed(number)
        target = (torch.rand(self.size, 6, 6, 6, generator=g) < 0.3).long()
        image = target[:, None] + 0.5 * torch.randn(self.size, 1, 6, 6, 6, generator=g)
        return Batch(image, target, torch.ones_like(target, dtype=torch.bool))


class Halves(Balls):
    """Every batch of `Balls` of twice the size, in two halves."""

    def batch(self, number: int) -> Batch:
        whole = Balls(2 * self.size).batch(number // 2)
        part = slice(0, self.size) if number % 2 == 0 else slice(self.size, None)
        return Batch(*(t[part] for t in whole))


def strategy_of(init: int = 0, norm: bool = True) -> Supervised:
    torch.manual_seed(init)
    return Supervised(Net(norm), SupervisedConfig(loss="ce", ema=0.9), "toy")


def run(folder, config, strategy=None, stream=None, **more):
    folder.mkdir(exist_ok=True)
    strategy = strategy or strategy_of()
    given = {
        "logbook": Logbook(),
        "validate": lambda network: {"score": 0.5},
        "keep": lambda network, metrics, now: None,
        "seed": 3,
    } | more
    fabric = Fabric(accelerator="cpu", devices=1, precision=config.precision)
    now = fit(strategy, {"labeled": stream or Balls()}, config, fabric, given.pop("logbook"), folder, **given)
    return now, strategy


def rows(path):
    with path.open(newline="") as file:
        return [(r["step"], r["name"], r["value"]) for r in csv.DictReader(file)]


class Interrupted(Exception):
    pass


def test_a_state_is_kept_by_the_clock_too(tmp_path):
    config = LoopConfig(steps=6, validate_every=100, warmup=2, lr=0.01, save_every="1e-9s")
    _, straight = run(tmp_path / "whole", config)

    def on_step(progress: Progress, loss: float) -> None:
        if progress.step == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(tmp_path / "parts", config, on_step=on_step)
    stream = Balls()
    _, resumed = run(tmp_path / "parts", config, strategy_of(init=7), stream)
    assert min(stream.asked) == 4
    for key, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop", [4, 5])
def test_a_run_goes_on_exactly_where_it_was_interrupted(tmp_path, stop, accumulate):
    config = LoopConfig(steps=6, validate_every=3, warmup=2, accumulate=accumulate, lr=0.01)
    whole, other = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    other.mkdir()

    def score(network: nn.Module) -> dict[str, float]:
        return {"score": float(network(Balls().batch(99).image).mean())}

    now, straight = run(whole, config, logbook=Logbook(whole / "m.csv", every=2), validate=score)

    def on_step(progress: Progress, loss: float) -> None:
        if progress.step == stop:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(other, config, logbook=Logbook(other / "m.csv", every=2), validate=score, on_step=on_step)
    again, stream = strategy_of(init=7), Balls()  # what it starts from must not matter
    then, resumed = run(
        other, config, again, stream, logbook=Logbook(other / "m.csv", every=2, since=3), validate=score
    )
    assert min(stream.asked) == 3 * accumulate
    for key, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert rows(whole / "m.csv") == rows(other / "m.csv")
    assert (then.step, then.best, then.best_step, then.waiting) == (6, now.best, now.best_step, now.waiting)
    saved = [load_state(f, strategy_of(1), torch.optim.AdamW(strategy_of().student.parameters())) for f in
             (whole, other)]  # fmt: skip
    assert saved[0].step == saved[1].step == 6


def test_a_finished_run_is_not_trained_again(tmp_path):
    config = LoopConfig(steps=2, validate_every=1)
    run(tmp_path, config)
    stream = Balls()
    now, _ = run(tmp_path, config, stream=stream)
    assert now.step == 2
    assert stream.asked == []


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(tmp_path):
    config = LoopConfig(steps=3)
    ends = [run(tmp_path / str(i), config, seed=s)[1].state_dict() for i, s in enumerate((3, 3, 4))]
    assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[2].values(), strict=True))


def test_training_lowers_the_loss(tmp_path):
    book = Logbook(every=10)
    run(tmp_path, LoopConfig(steps=60, lr=0.03, warmup=0), strategy_of(norm=False), logbook=book)
    losses = [value for _, _, name, value in book.rows if name == "loss/main"]
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_precisions(tmp_path, precision):
    now, strategy = run(tmp_path, LoopConfig(steps=2, precision=precision))
    assert now.step == 2
    assert all(p.dtype == torch.float32 for p in strategy.parameters())


def rates(tmp_path, **more) -> list[float]:
    book = Logbook(every=1)
    run(tmp_path, LoopConfig(**({"steps": 8, "lr": 0.01, "warmup": 0} | more)), logbook=book)
    return [value for _, _, name, value in book.rows if name == "lr"]


def test_schedules(tmp_path):
    cosine = [0.01 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * k / 8))) for k in range(8)]
    assert rates(tmp_path / "a", schedule="cosine") == pytest.approx(cosine)
    assert rates(tmp_path / "b", schedule="step") == pytest.approx([0.01] * 4 + [0.001] * 4)
    falls = rates(tmp_path / "thirds", schedule="step", drops=(1 / 3, 2 / 3))
    assert falls == pytest.approx([0.01] * 3 + [0.001] * 3 + [0.0001] * 2)
    assert rates(tmp_path / "c", schedule="constant") == pytest.approx([0.01] * 8)
    warm = rates(tmp_path / "d", schedule="constant", warmup=4)
    assert warm == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01, 0.01, 0.01])


def test_a_step_of_each_optimizer_by_hand(tmp_path):
    """Of one weight: Adam's first step is lr against the gradient's sign; decay is added where it belongs."""
    moved = {}
    for name in ("adamw", "adam", "sgd"):
        strategy = strategy_of(norm=False)
        weights = list(strategy.student.parameters())
        before = [w.detach().clone() for w in weights]
        config = LoopConfig(
            steps=1, lr=0.01, warmup=0, schedule="constant", optimizer=name, weight_decay=0.5, clip=1e6
        )
        run(tmp_path / name, config, strategy)
        moved[name] = [((w - b).detach(), b, w.grad) for w, b in zip(weights, before, strict=True)]
    for step, before, gradient in moved["adamw"]:
        assert torch.allclose(step, -0.01 * gradient.sign() - 0.005 * before, atol=2e-4)
    for step, before, gradient in moved["adam"]:
        assert torch.allclose(step, -0.01 * (gradient + 0.5 * before).sign(), atol=2e-4)
    for step, before, gradient in moved["sgd"]:
        assert torch.allclose(step, -0.01 * 1.9 * (gradient + 0.5 * before), atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_of_another_optimizer_goes_on_too(tmp_path, optimizer):
    config = LoopConfig(steps=4, validate_every=2, lr=0.01, optimizer=optimizer)
    _, straight = run(tmp_path / "a", config)

    def on_step(progress: Progress, loss: float) -> None:
        if progress.step == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(tmp_path / "b", config, on_step=on_step)
    _, resumed = run(tmp_path / "b", config, strategy_of(init=7))
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in straight.state_dict().items())


def test_accumulated_batches_are_one_big_batch(tmp_path):
    config = LoopConfig(steps=3, lr=0.01, warmup=0)
    _, big = run(tmp_path / "a", config, strategy_of(norm=False), Balls(4))
    twice = config.model_copy(update={"accumulate": 2})
    _, small = run(tmp_path / "b", twice, strategy_of(norm=False), Halves(2))
    start = strategy_of(norm=False)
    for name, value in big.student.state_dict().items():
        assert torch.allclose(value, small.student.state_dict()[name], atol=2e-5)
        assert not torch.allclose(value, start.student.state_dict()[name], atol=1e-3)


def gradients(tmp_path, config, stream) -> list[torch.Tensor]:
    """Of the second step, as the optimizer sees them; AdamW forgets their scale."""
    strategy = strategy_of(norm=False)
    run(tmp_path, config, strategy, stream)
    return [p.grad for p in strategy.student.parameters()]


def test_accumulated_gradients_are_those_of_one_big_batch(tmp_path):
    config = LoopConfig(steps=2, clip=1e6)
    big = gradients(tmp_path / "a", config, Balls(4))
    small = gradients(tmp_path / "b", config.model_copy(update={"accumulate": 2}), Halves(2))
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(big, small, strict=True))
    assert max(float(a.abs().max()) for a in big) > 1e-3


def test_the_average_is_told_the_number_of_the_step(tmp_path, monkeypatch):
    strategy, steps = strategy_of(), []
    monkeypatch.setattr(strategy, "after_step", steps.append)
    run(tmp_path, LoopConfig(steps=4, validate_every=2), strategy)
    assert steps == [1, 2, 3, 4]


def test_the_gradient_is_clipped(tmp_path):
    norms = []
    strategy = strategy_of(norm=False)

    def look(progress: Progress, loss: float) -> None:
        norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in strategy.student.parameters())))

    run(tmp_path, LoopConfig(steps=2, clip=1e-3), strategy, on_step=look)
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-2)


def test_time_is_up(tmp_path, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    judged = []
    now, _ = run(
        tmp_path,
        LoopConfig(steps=10_000, max_time="12s", validate_every=5000),
        validate=lambda network: judged.append(1) or {"score": 1.0},
    )
    assert now.step == 12
    assert judged == [1]
    assert (tmp_path / NAME).exists()


def test_time_of_the_processor_passes_only_while_it_works(tmp_path, monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr("cryovox.training.loop.time.process_time", lambda: next(ticks))
    monkeypatch.setattr("cryovox.training.loop.time.monotonic", lambda: 1e9)  # would end it at once
    now, _ = run(tmp_path, LoopConfig(steps=50, max_time="3s", clock="processor"))
    assert 0 < now.step < 50
    assert now.seconds >= 3


def test_share_follows_what_is_further():
    config = LoopConfig(steps=100, max_time="10s")
    assert share(Progress(step=20, seconds=1.0), config) == 0.2
    assert share(Progress(step=20, seconds=5.0), config) == 0.5
    assert share(Progress(step=20, seconds=50.0), config) == 1
    assert share(Progress(step=20, seconds=50.0), LoopConfig(steps=100)) == 0.2


def test_patience_stops(tmp_path):
    scores = iter([0.2, 0.5, 0.5, 0.4, 0.3, 0.9])
    now, _ = run(
        tmp_path,
        LoopConfig(steps=50, validate_every=2, patience=3),
        validate=lambda network: {"score": next(scores)},
    )
    assert (now.step, now.best, now.best_step, now.waiting) == (10, 0.5, 4, 3)


@pytest.mark.parametrize(("which", "steps"), [("best", [1, 2, 4]), ("last", [1, 2, 3, 4, 5])])
def test_which_weights_are_kept(tmp_path, which, steps):
    scores, kept = iter([0.1, 0.2, 0.2, 0.3, float("nan")]), []

    def keep(network: nn.Module, metrics: dict[str, float], now: Progress) -> None:
        kept.append((now.step, metrics["other"]))
        assert not network.training

    run(
        tmp_path,
        LoopConfig(steps=5, validate_every=1, keep=which),
        validate=lambda network: {"score": next(scores), "other": 7.0},
        keep=keep,
    )
    assert kept == [(step, 7.0) for step in steps]


def test_where_nothing_is_held_out_the_last_weights_are_kept_and_patience_does_not_end(tmp_path):
    kept = []
    now, _ = run(
        tmp_path,
        LoopConfig(steps=5, validate_every=1, patience=2),
        validate=lambda network: {},
        keep=lambda network, metrics, now: kept.append((now.step, metrics)),
    )
    assert kept == [(step, {}) for step in range(1, 6)]
    assert (now.step, now.best_step) == (5, -1)


def test_validation_sees_the_average_in_eval_mode_and_changes_nothing(tmp_path):
    seen, strategy = [], strategy_of()

    def validate(network: nn.Module) -> dict[str, float]:
        seen.append(network is strategy.average and not network.training)
        torch.manual_seed(0)
        return {"score": 0.0}

    run(tmp_path / "a", LoopConfig(steps=4, validate_every=1), strategy, validate=validate)
    assert seen == [True] * 4
    _, other = run(tmp_path / "b", LoopConfig(steps=4, validate_every=4))
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in strategy.state_dict().items())


def test_seeds_differ_by_step_and_rank():
    found = {hash_seed(seed, step, rank) for seed in range(5) for step in range(50) for rank in range(4)}
    assert len(found) == 1000
    assert all(0 <= value < 2**63 for value in found)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\x00" * 64,
        lambda whole: whole.replace(b'\\"step\\"', b'\\"stop\\"'),
        lambda whole: whole.replace(b'{\\"step', b'{\\"\\"tep'),
    ],
    ids=["empty", "cut", "zeros", "unknown key", "no json"],
)
def test_a_damaged_state_is_refused(tmp_path, damage):
    config = LoopConfig(steps=1, validate_every=1)
    run(tmp_path, config)
    path = tmp_path / NAME
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    with pytest.raises(RequestError, match="does not fit this training") as caught:
        run(tmp_path, config)
    assert "--overwrite" in caught.value.remedy


def test_a_state_of_another_network_is_refused(tmp_path):
    run(tmp_path, LoopConfig(steps=1, validate_every=1))
    with pytest.raises(RequestError, match="does not fit this training"):
        run(tmp_path, LoopConfig(steps=1), strategy_of(norm=False))


def test_there_may_be_no_state(tmp_path):
    strategy = strategy_of()
    optimizer = torch.optim.AdamW(strategy.student.parameters())
    assert load_state(tmp_path, strategy, optimizer) is None
    save_state(tmp_path, strategy, optimizer, Progress(step=5, seconds=1.5))
    assert load_state(tmp_path, strategy, optimizer) == Progress(step=5, seconds=1.5)
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_the_logbook_averages_and_drops_what_comes_after(tmp_path):
    path = tmp_path / "metrics.csv"
    book = Logbook(path, every=2)
    for step, loss in enumerate((1.0, 3.0, 7.0), 1):
        book.step(Progress(step=step), {"main": loss}, 0.1)
    book.validation(Progress(step=3), {"score": 0.5})
    expected = [
        ("2", "loss/main", "2.0"),
        ("2", "lr", "0.1"),
        ("3", "loss/main", "7.0"),
        ("3", "lr", "0.1"),
        ("3", "val/score", "0.5"),
    ]
    assert rows(path) == expected
    Logbook(path, since=2)
    assert rows(path) == expected[:2]
    Logbook(path)
    assert rows(path) == []


def test_losses_before_a_save_are_written_with_it(tmp_path):
    """An interrupted run has lost no row that its saved state has passed."""
    config = LoopConfig(steps=5, validate_every=5, save_every="1e-9s")

    def on_step(progress: Progress, loss: float) -> None:
        if progress.step == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(tmp_path, config, logbook=Logbook(tmp_path / "m.csv", every=5), on_step=on_step)
    assert [int(row.split(",")[0]) for row in (tmp_path / "m.csv").read_text().splitlines()[1:]][-1] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("during", ["step", "validation"])
def test_a_signal_saves_the_state_and_the_run_goes_on_exactly(tmp_path, number, during):
    config = LoopConfig(steps=6, validate_every=2, warmup=0, save_every="1h")
    (whole, wanted), scores = run(tmp_path / "whole", config), iter(range(10))

    def on_step(now, loss):
        if during == "step" and now.step == 3:
            os.kill(os.getpid(), number)

    def validate(network):
        if during == "validation" and next(scores) == 1:
            os.kill(os.getpid(), number)
            raise AssertionError("went on")
        return {"score": 0.5}

    before = signal.getsignal(number)
    step = 3 if during == "step" else 4
    with pytest.raises(interrupt.Interrupted, match=f"state of step {step} is saved") as caught:
        run(tmp_path / "cut", config, on_step=on_step, validate=validate)
    assert caught.value.code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert signal.getsignal(number) is before
    kept = []
    now, strategy = run(tmp_path / "cut", config, keep=lambda network, metrics, now: kept.append(now.step))
    assert (now.step, now.best_step, now.waiting) == (whole.step, whole.best_step, whole.waiting)
    for name, value in wanted.state_dict().items():
        assert torch.equal(value, strategy.state_dict()[name]), name
    assert (
        load_state(tmp_path / "cut", strategy_of(), torch.optim.AdamW(strategy_of().parameters())).step == 6
    )


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    code = """
import os, signal, time
from cryovox.core.interrupt import postponed
with postponed() as interrupt:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)  # a launcher hands on what the terminal sent as well
    print(interrupt.signal, flush=True)
    time.sleep(1.1)
    os.kill(os.getpid(), signal.SIGINT)
    print("went on", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (-signal.SIGINT, ["2"])


@pytest.mark.parametrize(
    ("steps", "validated"),
    [(150, [150]), (500, [200, 400, 500]), (8000, [400, 800, 1200])],
)
def test_validations_are_at_most_twenty_in_a_training(steps, validated):
    config = LoopConfig(steps=steps)
    moments = [Progress(step=n) for n in range(min(steps, 1300) + 1)]
    due = [now.step for before, now in pairwise(moments) if validation_due(before, now, config)]
    assert due == validated


def test_validations_of_a_training_by_time():
    """1 s for each step of 100,000 s, or of 1000 s."""
    moments = [Progress(step=n, seconds=float(n)) for n in range(1001)]

    def due(time: str) -> list[int]:
        config = LoopConfig(max_time=time)
        return [now.step for before, now in pairwise(moments) if validation_due(before, now, config)]

    assert due("100000s") == []
    assert due("1000s") == [200, 400, 600, 800, 1000]
    assert due("10000s") == [500, 1000]


def test_only_the_time_limits_a_training_with_a_time_limit():
    assert LoopConfig().max_steps == 4000
    assert LoopConfig(steps=7, max_time="1h").max_steps == 7
    long = Progress(step=1_000_000, seconds=36.0)
    assert share(long, LoopConfig(max_time="1h")) == pytest.approx(0.01)
    assert share(long, LoopConfig(max_time="1h", steps=2_000_000)) == pytest.approx(0.5)
