"""The table of training strategies."""

from __future__ import annotations

from cryovox.core.registry import Registry

STRATEGIES = Registry(
    "strategy",
    "cryovox.strategies",
    {"supervised": "cryovox.training.strategies.supervised:Supervised"},
)
