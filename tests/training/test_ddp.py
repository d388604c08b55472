import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys, time
from pathlib import Path
import torch
from lightning_fabric import Fabric
from torch import nn
from cryovox.data.streams import Batch
from cryovox.training import loop
from cryovox.training.config import LoopConfig
from cryovox.training.logbook import Logbook
from cryovox.training.strategies.config.supervised import SupervisedConfig
from cryovox.training.strategies.supervised import Supervised

torch.set_num_threads(1)
out = Path(sys.argv[1])
config = LoopConfig.model_validate_json(sys.argv[2])


class Net(nn.Module):
    kind = "mask"

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1))

    def forward(self, x):
        return self.body(x)


class Stream:
    def __init__(self, rank):
        self.rank = rank

    def batch(self, number):
        g = torch.Generator().manual_seed(1000 * self.rank + number)
        target = (torch.rand(2, 6, 6, 6, generator=g) < 0.3).long()
        image = target[:, None] + 0.5 * torch.randn(2, 1, 6, 6, 6, generator=g)
        return Batch(image, target, torch.ones_like(target, dtype=torch.bool))


fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
rank = fabric.global_rank
if rank == 1:  # a clock that runs ten times too fast
    class Fast:
        monotonic = staticmethod(lambda: 10 * time.monotonic())
    loop.time = Fast
torch.manual_seed(0)
strategy = Supervised(Net(), SupervisedConfig(loss="ce", ema=0.9), "toy")
kept = []
now = loop.fit(
    strategy, {"labeled": Stream(rank)}, config, fabric, Logbook(), out,
    lambda network: {"score": 0.5}, lambda network, metrics, now: kept.append(now.step), 3,
)
torch.save(strategy.state_dict(), out / f"weights{rank}.pt")
(out / f"rank{rank}.json").write_text(json.dumps({"step": now.step, "best": now.best, "kept": kept}))
"""


def launch(folder, config) -> list[dict]:
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")},
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    done = subprocess.run(
        [sys.executable, str(script), str(folder), json.dumps(config)],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank{r}.json").read_text()) for r in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [{"steps": 6}, {"steps": 100_000, "max_time": "2s"}], ids=["steps", "time"]
)
def test_two_processes_hold_the_same_weights_and_finish(tmp_path, config):
    import torch

    first, second = launch(tmp_path, config | {"validate_every": 3, "warmup": 0, "accumulate": 2})
    assert first["step"] == second["step"] >= (6 if "max_time" not in config else 3)
    assert first["best"] == second["best"] == 0.5
    assert first["kept"] == [3]
    assert second["kept"] == []  # one process writes
    weights = [torch.load(tmp_path / f"weights{r}.pt", weights_only=True) for r in (0, 1)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert (tmp_path / "state.safetensors").exists()
