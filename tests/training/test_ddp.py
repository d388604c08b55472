import csv
import json
import os
import signal
import subprocess
import sys
import time

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


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    from cryovox.simulate.phantom import PhantomConfig
    from cryovox.workflows.simulation.phantoms import write_phantoms

    config = PhantomConfig(shape=(32, 48, 48), count=8, snr=2.0)
    return write_phantoms(tmp_path_factory.mktemp("data") / "phantoms", config, ("train", "train", "val"), 0)


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cryovox")


def train(data, out, devices, accumulate, kill=False, launch=("-m", "cryovox")) -> tuple[int, str, dict]:
    """`cryovox train` in some processes; the second is killed after the first checkpoint if asked for."""
    config = out.parent / "unet.yaml"  # its norms are of instances: no statistics of batches
    network = {"model": "unet3d", "options": {"widths": [4, 8, 16, 32]}}
    config.write_text(json.dumps({"network": network}))
    words = (
        "train", "supervised", "--data", data, "--out", out, "--config", config, "--patch", 16, "--batch", 2,
        "--device", "cpu", "--devices", devices, "--accumulate", accumulate, "--steps", 12, "--warmup", 2,
        "--validate-every", 2,
    )  # fmt: skip
    environment = {
        k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
    }
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    run = subprocess.Popen(
        [sys.executable, *launch, *map(str, words)], env=environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    while kill and run.poll() is None and not (out / "state.safetensors").exists():
        time.sleep(0.02)
    if kill:
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(run.pid)], capture_output=True, text=True)
        os.kill(int(listed.stdout.split()[0]), signal.SIGKILL)
    _, errors = run.communicate(timeout=1800)
    with (out / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["name"].startswith("loss/")]
    return run.returncode, errors, {(int(r["step"]), r["name"]): float(r["value"]) for r in rows}


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one_and_survive_the_loss_of_one(phantoms, tmp_path):
    code, errors, one = train(phantoms, tmp_path / "one", devices=1, accumulate=2)
    assert code == 0, errors
    code, errors, two = train(phantoms, tmp_path / "two", devices=2, accumulate=1)
    assert code == 0, errors
    code, errors, killed = train(phantoms, tmp_path / "killed", devices=2, accumulate=1, kill=True)
    assert code != 0
    assert max(step for step, _ in killed) < 12
    assert "another of the 2 processes of the training was lost" in errors
    assert "Traceback" not in errors
    code, errors, continued = train(phantoms, tmp_path / "killed", devices=2, accumulate=1, launch=TORCHRUN)
    assert code == 0, errors
    assert one.keys() == two.keys() == continued.keys()
    assert {step for step, _ in one} == {2, 4, 6, 8, 10, 12}
    difference = max(abs(one[key] - two[key]) for key in one)
    after = max(abs(one[key] - continued[key]) for key in one)
    sys.stdout.write(f"largest difference of the loss: {difference:.2e}; after a restart {after:.2e}\n")
    assert difference < 1e-4
    assert after < 1e-4
    assert len({round(value, 6) for value in one.values()}) > 3  # it is a curve
