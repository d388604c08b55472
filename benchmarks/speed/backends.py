"""Other back ends of inference beside PyTorch, on one thread: OpenVINO and ONNX Runtime.

Networks of size s and the embedded model score a batch of noise as the tiler does: PyTorch in float32, and in bfloat16 with channels-last weights, OpenVINO as with
`--backend openvino`, and ONNX Runtime with the traced network. All take turns; the least processor time of some rounds counts. Beside the times: the
largest difference of the scores from PyTorch in float32.

    pip install "cryovox[openvino]" onnxruntime onnx
    OMP_NUM_THREADS=1 python benchmarks/speed/backends.py        # about four processor minutes
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result
from cryovox.inference.openvino import OpenVinoNetwork
from cryovox.inference.stream import TilePlan, activate, score
from cryovox.models import MODELS, build, options
from cryovox.models.card import EMBEDDED
from cryovox.models.checkpoint import load_model
from cryovox.models.memory_format import infer_channels_last
from cryovox.models.supervision import predict
from cryovox.workflows.devices import keep_freed_memory
from cryovox.workflows.score_tiles import default_batch

NETWORKS = ("heatmap-unet", "voxresnet", "unet3d", "mvgformer", "swin-unetr", "mednext")
SPECIES = 6
Backend = Callable[[], Any]


def in_torch(network: nn.Module, images: Tensor, bf16: bool) -> Backend:
    """PyTorch as the tiler uses it."""
    own = copy.deepcopy(network)
    if bf16:
        infer_channels_last(own, "cpu")
    return partial(score, own, images, plan_of(own, images, bf16))


def in_openvino(network: nn.Module, images: Tensor, bf16: bool) -> Backend:
    """The network in OpenVINO, as with `--backend openvino`."""
    own = OpenVinoNetwork(network, bf16)
    return partial(score, own, images, plan_of(own, images, bf16))


def plan_of(network: nn.Module, images: Tensor, bf16: bool) -> TilePlan:
    """Tiles of the size of the images."""
    return TilePlan(images.shape[-1], 0.5, network.output_stride, network.activation, bf16=bf16)


class Scores(nn.Module):
    """A network whose `forward` gives scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return activate(predict(self.network, images), self.network.activation)


def in_onnx(network: nn.Module, images: Tensor) -> Backend:
    """The exported network in ONNX Runtime."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.onnx")
        torch.onnx.export(
            Scores(network).eval(), (images,), path, input_names=["images"], dynamo=False, opset_version=18
        )
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    data = images.numpy()
    return lambda: session.run(None, {"images": data})[0]


def network_of(name: str) -> tuple[nn.Module, int]:
    """A network in eval mode, and the side of its tiles."""
    torch.manual_seed(0)
    if name == "embedded":
        network, card = load_model(EMBEDDED)
        return network, card.patch
    network = build(name, options(name, "s"), 1, SPECIES + (MODELS[name].kind == "mask"))
    return network.eval(), MODELS[name].patch


def row(name: str, rounds: int) -> dict[str, Any]:
    """Processor seconds of each back end per patch, and differences of scores."""
    network, side = network_of(name)
    images = torch.randn(default_batch(side, "cpu"), 1, side, side, side)
    makers: dict[str, Callable[[], Backend]] = {
        "PyTorch, float32": lambda: in_torch(network, images, False),
        "PyTorch, bfloat16": lambda: in_torch(network, images, True),
        "OpenVINO, float32": lambda: in_openvino(network, images, False),
        "OpenVINO, bfloat16": lambda: in_openvino(network, images, True),
        "ONNX Runtime, float32": lambda: in_onnx(network, images),
    }
    backends, failures = {}, {}
    for kind, make in makers.items():
        try:
            backends[kind] = make()
            backends[kind]()
        except Exception as error:
            backends.pop(kind, None)
            failures[kind] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    seconds: dict[str, list[float]] = {kind: [] for kind in backends}
    for _ in range(rounds):
        for kind, run in backends.items():
            start = time.process_time()
            run()
            seconds[kind].append(time.process_time() - start)
    expected = backends["PyTorch, float32"]()
    best = {kind: round(min(values) / len(images), 5) for kind, values in seconds.items()}
    apart = {kind: round(float(np.abs(run() - expected).max()), 5) for kind, run in backends.items()}
    return {"network": name, "batch": len(images), "side": side, "seconds": best, "difference": apart,
            "failures": failures}  # fmt: skip


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS, "embedded"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.filterwarnings("ignore")
    rows = []
    for name in args.networks:
        rows.append(row(name, args.rounds))
        print(rows[-1], flush=True)
    print(write_result("backends", {"threads": 1, "rounds": args.rounds, "rows": rows}))


if __name__ == "__main__":
    main()
