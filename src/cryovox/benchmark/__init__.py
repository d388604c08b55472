"""Benchmark suites that compare networks and training strategies as the papers do."""

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
        "semi-amounts": "cryovox.benchmark.semi:OTHER_AMOUNTS",
        "semi-errors": "cryovox.benchmark.semi:LABEL_ERRORS",
        "semi-real": "cryovox.benchmark.real_tomogram:SEMI",
        "uda": "cryovox.benchmark.adaptation_cubes:UDA",
        "uda-ablations": "cryovox.benchmark.adaptation_cubes:ABLATIONS",
        "uda-real": "cryovox.benchmark.real_tomogram:UDA",
        "uda-safety": "cryovox.benchmark.adaptation_cubes:SAFETY",
        "uda-shift": "cryovox.benchmark.adaptation_cubes:SHIFT",
        "uda-snr": "cryovox.benchmark.adaptation_cubes:TRANSFER",
        "uda-tomograms": "cryovox.benchmark.adaptation_tomograms:TOMOGRAMS",
        "zsda": "cryovox.benchmark.zero_shot:ZSDA",
        "zsda-ablations": "cryovox.benchmark.zero_shot:ABLATIONS",
        "zsda-classes": "cryovox.benchmark.zero_shot_classes:CLASSES_SUITE",
        "zsda-classes-ablations": "cryovox.benchmark.zero_shot_classes:ABLATIONS",
        "zsda-real": "cryovox.benchmark.zero_shot:REAL",
        "zsda-tomograms": "cryovox.benchmark.zero_shot:TOMOGRAMS",
    },
)
"""Each row is an instance of `cryovox.benchmark.suite.Suite`; other packages add theirs by entry point."""

SUMMARIES = {
    "subtomograms": "segmentation of simulated subtomograms, seen and unseen structures",
    "tomograms": "segmentation of simulated tomograms",
    "tomograms-pretrained": "the same after pre-training on subtomograms",
    "ablations": "ablations of MVGFormer",
    "nodes": "number of graph nodes of MVGFormer, 13 species",
    "nodes-czii": "number of graph nodes of MVGFormer, CZII species",
    "picking": "particle picking by networks trained on simulated tomograms",
    "picking-zero-shot": "particle picking in tomograms of other imaging conditions",
    "cost": "time and memory of every network",
    "uda": "domain adaptation of subtomogram segmentation",
    "uda-shift": "domain adaptation across a large shift, data drawn by seed",
    "uda-snr": "domain adaptation from high to low SNR",
    "uda-tomograms": "domain adaptation of tomogram segmentation",
    "uda-real": "domain adaptation to a real tomogram",
    "uda-ablations": "ablations of Vox-UDA",
    "uda-safety": "accuracy of the selection between source and adapted model",
    "zsda": "domain generalization of subtomogram segmentation",
    "zsda-classes": "domain generalization with classes of equal size, and their confusion",
    "zsda-classes-ablations": "ablations of Vox-ZSDA with classes of equal size",
    "zsda-tomograms": "domain generalization of tomogram segmentation",
    "zsda-real": "domain generalization to a real tomogram",
    "zsda-ablations": "ablations of Vox-ZSDA",
    "semi": "picking from few labels and unlabeled tomograms",
    "semi-amounts": "picking from other amounts of labels",
    "semi-ablations": "ablations of SemiETPicker",
    "semi-errors": "picking from labels with errors",
    "semi-real": "picking from few labels in a real tomogram",
}
"""Name of a suite -> its task in one line."""
