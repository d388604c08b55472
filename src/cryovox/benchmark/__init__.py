"""Suites that compare networks as the papers do."""

from __future__ import annotations

from cryovox.core.registry import Registry

SUITES = Registry(
    "suite",
    "cryovox.suites",
    {
        "ablations": "cryovox.benchmark.ablations:ABLATIONS",
        "cost": "cryovox.benchmark.cost:COST",
        "nodes": "cryovox.benchmark.ablations:NODES",
        "nodes-czii": "cryovox.benchmark.ablations:NODES_CZII",
        "picking": "cryovox.benchmark.picking:PICKING",
        "picking-zero-shot": "cryovox.benchmark.picking:ZERO_SHOT",
        "subtomograms": "cryovox.benchmark.subtomograms:SUBTOMOGRAMS",
        "tomograms": "cryovox.benchmark.tomograms:TOMOGRAMS",
        "tomograms-pretrained": "cryovox.benchmark.tomograms:PRETRAINED",
        "semi": "cryovox.benchmark.semi:SEMI",
        "semi-ablations": "cryovox.benchmark.semi:ABLATIONS",
        "semi-amounts": "cryovox.benchmark.semi:MORE",
        "semi-errors": "cryovox.benchmark.semi:NOISE",
        "semi-real": "cryovox.benchmark.semi_real:REAL",
        "uda": "cryovox.benchmark.adaptation_cubes:UDA",
        "uda-ablations": "cryovox.benchmark.adaptation_cubes:ABLATIONS",
        "uda-real": "cryovox.benchmark.adaptation_real:REAL",
        "uda-safety": "cryovox.benchmark.adaptation_cubes:SAFETY",
        "uda-snr": "cryovox.benchmark.adaptation_cubes:TRANSFER",
        "uda-tomograms": "cryovox.benchmark.adaptation_tomograms:TOMOGRAMS",
        "zsda": "cryovox.benchmark.zero_shot:ZSDA",
        "zsda-ablations": "cryovox.benchmark.zero_shot:ABLATIONS",
        "zsda-real": "cryovox.benchmark.zero_shot:REAL",
        "zsda-tomograms": "cryovox.benchmark.zero_shot:TOMOGRAMS",
    },
)
"""Each row is an instance of `cryovox.benchmark.suite.Suite`; other packages add theirs by entry point."""
