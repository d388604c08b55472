"""Ablations of MVGFormer: one setting changed in each row, and figures of its activations.

The settings that the paper varies are tested on simulated subtomograms; the number of graph nodes, which the
paper varies on three datasets (Table 10), is also tested on two kinds of tomograms.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cryovox.benchmark.subtomograms import SubtomogramSuite, images, masks
from cryovox.benchmark.suite import Job, Method, Scores
from cryovox.benchmark.tomograms import Scale, TomogramSuite, scaled_preset
from cryovox.core.atomic import replacing
from cryovox.data.cubes import standardize
from cryovox.formats import subtomograms as files
from cryovox.report.activations import activation_page
from cryovox.report.plotting import png
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.workflows.devices import Device
from cryovox.workflows.label_sets import label_set, resolve_contrast

VARIANTS: dict[str, dict[str, Any]] = {
    "mvgformer": {},
    "no graph": {"graph": "none"},
    "graph spectral": {"graph": "spectral"},
    "graph mincut": {"graph": "mincut"},
    "K 8": {"clusters": 8},
    "K 32": {"clusters": 32},
    "one view, xy": {"views": ["xy"]},
    "tripled view, xy": {"views": ["xy", "xy", "xy"]},
    "fusion norm-sum": {"fusion": "norm-sum"},
    "fusion learned": {"fusion": "learned"},
    "positions learned": {"positions": "learned"},
    "positions sinusoidal": {"positions": "sinusoidal"},
    "positions rotary": {"positions": "rotary"},
    "no VSL": {"vsl": False},
    "VSL apart": {"vsl_apart": True},
    "depth-to-space": {"enlarge": "depth-to-space"},
    "decoder width 16": {"width": 16},
    "no VSL, decoder width 16": {"vsl": False, "width": 16},
    "decoder mf": {"decoder": "mf"},
    "decoder mlp": {"decoder": "mlp"},
    "decoder unetr": {"decoder": "unetr"},
    "noise on xz": {"view_noise": {"xz": 0.05}},
    "C 48": {"dim": 48},
    "C 192": {"dim": 192},
    "2 layers": {"layers": 2},
    "8 layers": {"layers": 8},
    "tokens of 8 voxels": {"token": 8},
    "layer 1 cross": {"layer1": "cross"},
    "layer 1 prepend": {"layer1": "prepend"},
    "no drop path": {"drop_path": 0.0},
}
"""MVGFormer with one setting of the network changed."""
TRAININGS: dict[str, dict[str, Any]] = {
    "loss ce": {"supervised.loss": "ce"},
    "loss ce+boundary": {"supervised.loss": "ce+boundary"},
    "loss ce, contrastive": {"supervised.loss": "ce", "supervised.contrastive": 0.1},
    "views weigh half": {"supervised.weights": {"xy": 0.5, "yz": 0.5, "xz": 0.5}},
    "VSL weight 0.1": {"supervised.weights": {"vsl": 0.1}},
    "rate 1e-2": {"loop.lr": 1e-2},
    "rate 1e-3": {"loop.lr": 1e-3},
    "rate 3e-4": {"loop.lr": 3e-4},
    "no warm-up": {"loop.warmup": 0},
}
"""MVGFormer with one setting of the training changed."""


def variants(size: str) -> tuple[Method, ...]:
    """Rows of the ablations: MVGFormer with one setting changed."""
    changed = [Method(name, "mvgformer", size, options) for name, options in VARIANTS.items()]
    return (*changed, *(Method(name, "mvgformer", size, train=train) for name, train in TRAININGS.items()))


def nodes(size: str) -> tuple[Method, ...]:
    """Rows of Table 10: the number of nodes of the graph, and no graph."""
    counts = [Method(f"K {k}", "mvgformer", size, {"clusters": k}) for k in (8, 16, 24, 32)]
    return (*counts, Method("no graph", "mvgformer", size, {"graph": "none"}))


def czii(scale: Scale) -> SimulationConfig:
    """The preset `czii-phantom` in a smaller box."""
    return scaled_preset("czii-phantom", scale)


class AblationSuite(SubtomogramSuite):
    """The suite `subtomograms` with ablations; every run writes ``activations.png`` (Figs. 10 and 11)."""

    def run(self, job: Job, folder: Path, out: Path, device: Device) -> Scores:
        table = super().run(job, folder, out, device)
        if job.method.network == "mvgformer":
            test = min(folder.glob("test-*.zarr"))
            draw_activations(out / "run" / "model.safetensors", test, out / "activations.png", device)
        return table


def draw_activations(model: Path, test: Path, out: Path, device: Device = "cpu") -> None:
    """Draw the activations of MVGFormer in the first subtomogram of a set, with graph, truth and mask.

    Parameters
    ----------
    model
        Model file of an MVGFormer.
    test
        Subtomogram set with masks.
    out
        PNG file.
    device
        Device of the prediction.
    """
    import torch

    from cryovox.models.activations import activations
    from cryovox.models.checkpoint import load_model

    network: Any
    network, card = load_model(model)
    data = files.read(test)
    image = images(data)[:1]
    first = replace(data, images=image, masks=None, corners=None, particles=data.particles.take([0]))
    x = standardize(image, resolve_contrast(data, card, "auto"))
    with torch.no_grad():
        batch = torch.from_numpy(x)[:, None]
        maps = {name: level[0].numpy() for name, level in activations(network, batch).items()}
        graph = network.assignment(batch)
    labels = {"truth": masks(data)[0], "mask": label_set((network, card), first, device)[0]}
    figure = activation_page(x[0], maps, assignment=None if graph is None else graph[0].numpy(), masks=labels)
    with replacing(out) as beside:
        beside.write_bytes(png(figure))


ABLATIONS = AblationSuite(
    "ablations",
    "Ablations of MVGFormer on simulated subtomograms",
    "MVGFormer, Tables 2 and 8-14 and Figs. 9-11, on the smallest stand-in",
    "mvgformer",
    variants,
    budgets=1,
)
NODES = TomogramSuite(
    "nodes",
    "Nodes of MVGFormer's graph on tomograms with thirteen species",
    "MVGFormer, Table 10 (SHREC 2021)",
    nodes,
    reference="K 16",
)
NODES_CZII = TomogramSuite(
    "nodes-czii",
    "Nodes of MVGFormer's graph on tomograms with the species of CZII",
    "MVGFormer, Table 10, on a third kind of data",
    nodes,
    reference="K 16",
    simulation=czii,
)
