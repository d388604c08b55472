"""Networks computed by OpenVINO on a CPU (`pip install "cryovox[openvino]"`)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from cryovox.core.errors import RequestError
from cryovox.models.supervision import Prediction, predict

OPTION = "--backend"
LARGEST_DIFFERENCE = {False: 1e-3, True: 0.05}
"""Largest difference of a score from that of torch in float32 with which a network is used, by whether it
computes in bfloat16."""


class OpenVinoNetwork(nn.Module):
    """A network whose predictions OpenVINO computes; compiled once for each shape of a batch.

    Parameters
    ----------
    network
        On the CPU, in eval mode. Its weights are copied when it is compiled.
    bf16
        Compute in bfloat16.
    """

    is_compiled = True
    """It brings its own convolutions."""

    def __init__(self, network: nn.Module, bf16: bool) -> None:
        super().__init__()
        self.network, self.bf16 = network, bf16
        self.output_stride, self.activation = network.output_stride, network.activation
        self._compiled: dict[tuple[int, ...], Any] = {}
        if next(network.parameters()).device.type != "cpu":
            raise RequestError(OPTION, "openvino computes on the CPU", "add --device cpu, or leave it out")
        _import()

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "cpu":  # shapes only, to measure memory
            return predict(self.network, images)
        shape = tuple(images.shape)
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(shape)
        return torch.from_numpy(self._compiled[shape](images.contiguous().numpy())[0])

    def _compile(self, shape: tuple[int, ...]) -> Any:
        openvino = _import()
        hints = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "bf16" if self.bf16 else "f32",
        }
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of tracing: the shape is fixed
                    traced = Prediction(self.network)
                    model = openvino.convert_model(traced, example_input=example, input=list(shape))
                compiled = openvino.Core().compile_model(model, "CPU", hints)
            except Exception as error:
                message = f"openvino cannot compute this network: {str(error).splitlines()[0]}"
                raise RequestError(OPTION, message, "leave --backend out") from error
            expected, logits = predict(self.network, example), torch.from_numpy(compiled(example.numpy())[0])
        difference = float((expected.float().sigmoid() - logits.sigmoid()).abs().max())
        if not difference <= LARGEST_DIFFERENCE[self.bf16]:
            message = f"scores of openvino differ by up to {difference:.2g} from those of torch"
            raise RequestError(OPTION, message, "leave --backend out, or use --precision fp32")
        return compiled


def _import() -> Any:
    try:
        import openvino
    except ImportError:
        remedy = "pip install 'cryovox[openvino]', or leave --backend out"
        raise RequestError(OPTION, "openvino is not installed", remedy) from None
    return openvino
