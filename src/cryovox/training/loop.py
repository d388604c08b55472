"""The training loop; Lightning Fabric handles device, precision and multiple GPUs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cryovox.core.durations import seconds
from cryovox.core.interrupt import Interrupt, Interrupted, postponed
from cryovox.data.streams import Batch
from cryovox.models.memory_format import use_channels_last
from cryovox.training.config import LoopConfig
from cryovox.training.logbook import Logbook
from cryovox.training.state import Progress, load_state, save_state
from cryovox.training.strategies.base import Strategy

VALIDATIONS, MIN_STEPS = 20, 200
"""Number of validations in a long training, and steps between validations in a short one."""


class Stream(Protocol):
    """Deterministic source of batches: the same number gives the same batch."""

    def batch(self, number: int) -> Batch: ...


def fit(  # noqa: PLR0913
    strategy: Strategy,
    streams: Mapping[str, Stream],
    config: LoopConfig,
    fabric: Fabric,
    logbook: Logbook,
    folder: Path,
    validate: Callable[[nn.Module], Mapping[str, float]],
    keep: Callable[[nn.Module, Mapping[str, float], Progress], None],
    seed: int,
    on_step: Callable[[Progress, float], None] = lambda progress, loss: None,
) -> Progress:
    """Train a strategy; continues an interrupted run whose state is in *folder*.

    Parameters
    ----------
    strategy
        Trained in place.
    streams
        Must contain every name in ``strategy.required_streams``.
    validate
        Returns metrics of a network on held-out regions; the weights with the highest ``score`` are
        kept.
    keep
        Called with the network, its metrics and the progress whenever the score is the best so far.
    seed
        Seed of the run; the random numbers of a step depend on it and on the step number only.
    on_step
        Called after each step with the progress and the loss.

    Returns
    -------
    Progress
        Steps and seconds so far, including those before an interruption.
    """
    weights = [p for p in strategy.parameters() if p.requires_grad]
    optimizer = _optimizer(weights, config)
    use_channels_last(strategy, fabric.device)
    wrapped, optimizer = fabric.setup(strategy, optimizer)
    now = load_state(folder, strategy, optimizer) or Progress()
    began = _clock(config) - now.seconds
    saved = now.seconds

    def save() -> None:
        if fabric.global_rank == 0:
            logbook.flush(now)
            save_state(folder, strategy, optimizer, now)

    with postponed() as interrupt:
        while now.due or not finished(now, config):
            if not now.due:
                terms = _step(
                    wrapped, optimizer, streams, strategy.required_streams, config, fabric, now, seed
                )
                before, now = now, now.stepped(_elapsed(began, config, fabric))
                now = replace(now, due=validation_due(before, now, config))
                strategy.after_step(now.step)
                logbook.step(now, terms, optimizer.param_groups[0]["lr"])
                on_step(now, sum(terms.values()))
            try:
                if is_judged := now.due:
                    with interrupt.at_once():
                        judged = _judge(strategy, validate, keep, fabric, logbook, config, now)
                    now = replace(judged, due=False, seconds=_elapsed(began, config, fabric))
                if is_judged or now.seconds - saved > seconds(config.save_every):
                    save()
                    saved = now.seconds
                _stop_if_interrupted(interrupt, fabric)
            except Interrupted:
                save()
                raise interrupt.error(f"the state of step {now.step} is saved in {folder}") from None
    return now


def _stop_if_interrupted(interrupt: Interrupt, fabric: Fabric) -> None:
    """Stop all processes after the same step if any of them received a signal."""
    signaled = interrupt.signal is not None
    if fabric.world_size > 1:
        total = fabric.all_reduce(torch.tensor(float(signaled), device=fabric.device), reduce_op="sum")
        signaled = bool(total > 0)
    if signaled:
        raise interrupt.error()


def _optimizer(weights: list[nn.Parameter], config: LoopConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            weights, config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(weights, config.lr, weight_decay=config.weight_decay)


def _clock(config: LoopConfig) -> float:
    return time.process_time() if config.clock == "processor" else time.monotonic()


def _elapsed(began: float, config: LoopConfig, fabric: Fabric) -> float:
    """Seconds so far; with a time limit, all processes use the clock of the first."""
    elapsed = _clock(config) - began
    if config.max_time is None or fabric.world_size == 1:
        return elapsed
    return float(fabric.broadcast(elapsed, src=0))


def _step(
    wrapped: Any,
    optimizer: Any,
    streams: Mapping[str, Stream],
    required_streams: tuple[str, ...],
    config: LoopConfig,
    fabric: Fabric,
    now: Progress,
    seed: int,
) -> dict[str, float]:
    """Run one optimizer step and return the mean of each loss over all processes.

    Random numbers belong to the batch, whichever process computes it.
    """
    _set_rate(optimizer, config, now)
    wrapped.train()
    optimizer.zero_grad()
    sums: dict[str, float] = {}
    for part in range(config.accumulate):
        number = now.step * config.accumulate + part
        torch.manual_seed(hash_seed(seed, now.step, part * fabric.world_size + fabric.global_rank))
        batch = {name: streams[name].batch(number).to(fabric.device) for name in required_streams}
        with fabric.no_backward_sync(wrapped, enabled=part + 1 < config.accumulate):
            terms: dict[str, Tensor] = wrapped(batch, share(now, config))
            fabric.backward(
                torch.stack([t for t in terms.values() if t.requires_grad]).sum() / config.accumulate
            )
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach()) / config.accumulate
    norm = fabric.clip_gradients(wrapped, optimizer, max_norm=config.clip, error_if_nonfinite=False)
    if norm is None or bool(torch.isfinite(norm)):  # one bad batch must not spoil the weights
        optimizer.step()
    return _mean_over_processes(sums, fabric)


def _mean_over_processes(sums: dict[str, float], fabric: Fabric) -> dict[str, float]:
    if fabric.world_size == 1:
        return sums
    values = torch.tensor([*sums.values()], dtype=torch.float64, device=fabric.device)
    mean = fabric.all_reduce(values, reduce_op="mean")
    return dict(zip(sums, cast(Tensor, mean).tolist(), strict=True))


def _judge(
    strategy: Strategy,
    validate: Callable[[nn.Module], Mapping[str, float]],
    keep: Callable[[nn.Module, Mapping[str, float], Progress], None],
    fabric: Fabric,
    logbook: Logbook,
    config: LoopConfig,
    now: Progress,
) -> Progress:
    """Validate, keep the network if it is the best so far, and count patience."""
    if fabric.global_rank == 0:
        network = strategy.network()
        was_training = network.training
        metrics = dict(validate(network.eval()))
        network.train(was_training)
        logbook.validation(now, metrics)
    else:
        metrics = {}
    metrics = fabric.broadcast(metrics, src=0)
    if "score" not in metrics:  # nothing is held out
        if fabric.global_rank == 0:
            keep(strategy.network(), metrics, now)
        return now
    judged = now.judged(metrics["score"])
    if (judged.best_step == now.step or config.keep == "last") and fabric.global_rank == 0:
        keep(strategy.network(), metrics, judged)
    return judged


def share(now: Progress, config: LoopConfig) -> float:
    """Fraction of the training that is done, by steps or, if larger, by time."""
    by_step = now.step / config.max_steps
    if config.max_time is None:
        return min(1.0, by_step)
    return min(1.0, max(by_step, now.seconds / seconds(config.max_time)))


def validation_due(before: Progress, now: Progress, config: LoopConfig) -> bool:
    """Whether to validate after a step: at fixed steps, by progress in long trainings, and at the end."""
    if _out_of_time(now, config):
        return True
    if config.validate_every is not None:
        return now.step % config.validate_every == 0
    if now.step <= VALIDATIONS * MIN_STEPS * share(now, config):
        return now.step % MIN_STEPS == 0
    return int(VALIDATIONS * share(now, config)) > int(VALIDATIONS * share(before, config))


def _out_of_time(now: Progress, config: LoopConfig) -> bool:
    return share(now, config) >= 1.0


def finished(now: Progress, config: LoopConfig) -> bool:
    """Whether a training has used its steps or time, or its score no longer improves."""
    return _out_of_time(now, config) or now.waiting >= config.patience


def _set_rate(optimizer: Any, config: LoopConfig, now: Progress) -> None:
    done = share(now, config)
    factor = {
        "cosine": 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)),
        "step": 0.1 ** sum(done >= drop for drop in config.drops),
        "constant": 1.0,
    }[config.schedule]
    rise = min(1.0, (now.step + 1) / config.warmup) if config.warmup else 1.0
    for group in optimizer.param_groups:
        group["lr"] = config.lr * factor * rise


def hash_seed(*parts: int) -> int:
    """Mix small integers into one seed."""
    mixed = 0
    for part in parts:
        mixed = (mixed * 1_000_003 + part + 0x9E3779B9) % (2**63)
    return mixed
