"""`--cluster`: settings, plans, and runs on real schedulers and workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryovox.cli import main
from cryovox.cli.interface.workers import makespan
from cryovox.core.errors import RequestError, RunError
from cryovox.workflows.cluster.config import ClusterConfig, read_cluster
from cryovox.workflows.cluster.connect import connected, environment, job_script
from cryovox.workflows.cluster.spread import spread
from cryovox.workflows.cluster.tasks import shared
from cryovox.workflows.manifest import sha256

PLENTY = 1200
"""Seconds within which a process must answer on a busy machine."""


@pytest.mark.parametrize("text", ["local:0", "local:x", "somewhere", "cluster.txt"])
def test_what_is_no_cluster_is_refused(text):
    with pytest.raises(RequestError, match="--cluster"):
        read_cluster(text)


def test_files_describe_jobs(tmp_path):
    file = tmp_path / "slurm.yaml"
    file.write_text("kind: slurm\nworkers: 8\nmemory: 16GB\ninterface: ib0\noptions: {queue: gpu}\n")
    config = read_cluster(str(file))
    assert (config.kind, config.workers, config.options) == ("slurm", 8, {"queue": "gpu"})
    for wrong, word in (
        ("kind: slurm\nmemory: 16GB\n", "interface"),  # jobs do not reach the loopback device
        ("kind: slurm\ninterface: ib0\n", "memory"),
        ("kind: local\naddress: tcp://a:1\n", "address"),
        ("kind: address\n", "address"),
        ("kind: local\nworker: 3\n", "worker"),
        ("kind: !!python/object/apply:os.system [true]\n", "YAML"),
    ):
        file.write_text(wrong)
        with pytest.raises(RequestError, match=word):
            read_cluster(str(file))


def test_threads_are_pinned_and_gpus_shared_out():
    assert ClusterConfig(workers=10**6).torch_threads == 1
    assert ClusterConfig(workers=2, threads=3).torch_threads == 3
    variables = environment(3, "1")
    assert {variables[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")} == {"3"}
    assert variables["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in environment(3)


def test_a_plan_counts_what_is_done_at_the_same_time():
    assert makespan([4.0], 8) == 4.0
    assert makespan([1.0] * 10, 2) == 5.0
    assert makespan([5.0, 1.0, 1.0, 1.0], 2) == 5.0


def test_a_missing_scheduler_and_missing_certificates_are_told(tmp_path):
    pytest.importorskip("distributed")
    from cryovox.workflows.cluster.config import TlsConfig

    tls = TlsConfig(ca=tmp_path / "ca.pem", cert=tmp_path / "c.pem", key=tmp_path / "k.pem")
    with pytest.raises(RequestError, match=r"ca\.pem"), connected(ClusterConfig(tls=tls)):
        pass


@pytest.mark.parametrize(("kind", "word"), [("slurm", "#SBATCH"), ("pbs", "#PBS"), ("lsf", "#BSUB")])
def test_job_scripts_are_those_of_dask_jobqueue(kind, word):
    pytest.importorskip("dask_jobqueue")
    config = ClusterConfig(
        kind=kind, workers=1, threads=4, memory="8GB", host="127.0.0.1",
        options={"walltime": "01:00", "job_script_prologue": ["module load cryovox"]},
    )  # fmt: skip
    script = job_script(config)
    assert word in script
    assert "export OMP_NUM_THREADS=4" in script
    assert "module load cryovox" in script
    assert "--nthreads 1" in script


# real schedulers and workers


def tomograms(folder: Path, count: int, shape=(24, 24, 24)) -> Path:
    folder.mkdir()
    for number in range(count):
        with mrcfile.new(folder / f"TS_{number:02d}.mrc") as file:
            file.set_data(np.random.default_rng(number).normal(size=shape).astype(np.float32))
            file.set_volume()
            file.voxel_size = 13.0
    return folder


@contextmanager
def processes_of_dask():
    """Start `dask scheduler` and `dask worker` as anyone does, from another folder."""
    started = []

    def start(kind: str, *args: object, prefix=()) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CRYOVOX_MALLOC": "0"}
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) for p in sys.path if p)
        command = [
            *prefix,
            sys.executable,
            "-m",
            f"distributed.cli.dask_{kind}",
            "--no-dashboard",
            *map(str, args),
        ]
        process = subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in reversed(started):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def processes():
    with processes_of_dask() as start:
        yield start


def scheduler(processes, folder: Path, host="127.0.0.1", prefix=(), more=()) -> str:
    file = folder / "scheduler.json"
    processes("scheduler", "--host", host, "--port", 0, "--scheduler-file", file, *more, prefix=prefix)
    until = time.monotonic() + PLENTY
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    return json.loads(file.read_text())["address"]


def outputs(out: Path) -> dict[str, str]:
    kinds = (
        "denoised",
        "scores",
        "labels",
        "particles",
        "tomograms",
        "noise",
        "masks",
        "rotations",
        "halves",
    )
    files = [p for kind in kinds for p in sorted((out / kind).glob("*"))]
    # what lies beside particle lists names the path of the model
    return {str(p.relative_to(out)): sha256(p) for p in files if not p.name.endswith(".manifest.json")}


def strays(out: Path) -> list[str]:
    hidden = [p for p in out.rglob(".*") if p.name != ".locks" and ".locks" not in p.parts]
    return sorted(str(p.relative_to(out)) for p in [*hidden, *out.rglob("*.partial")])


def worker_processes(parent: int) -> list[int]:
    """Children of the nanny that compute."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True
    )
    rows = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, args in rows if "spawn_main" in args or args.startswith("dask worker")]


@pytest.mark.slow
def test_fifty_tomograms_on_two_workers_that_are_killed_give_the_bytes_of_one_process(
    processes, tmp_path, monkeypatch
):
    pytest.importorskip("distributed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = tomograms(tmp_path / "in", 50)
    (folder / "TS_07.mrc").write_bytes(b"poison" * 999)
    address = scheduler(processes, tmp_path)
    nannies = [processes("worker", address, "--nthreads", 1) for _ in range(2)]
    denoise = ["denoise", str(folder), "--method", "ibf", "--sigma-d", "3", "--device", "cpu", "--out"]
    program = [sys.executable, "-c", "from cryovox.cli import run; run()"]
    run = subprocess.Popen(
        [*program, *denoise, str(tmp_path / "two"), "--cluster", address], stderr=subprocess.PIPE, text=True
    )
    killed, rng, seen = 0, np.random.default_rng(3), 0
    until = time.monotonic() + PLENTY
    while run.poll() is None and time.monotonic() < until:
        done = len(list((tmp_path / "two" / "denoised").glob("*.mrc")))
        if done >= seen + 8 and killed < 4:  # each time that some more are done, a worker is killed
            seen = done
            if victims := worker_processes(nannies[rng.integers(2)].pid):
                os.kill(victims[0], signal.SIGKILL)
                killed += 1
        time.sleep(0.02)
    _, err = run.communicate(timeout=PLENTY)
    assert run.returncode == 1, err
    assert killed >= 2
    (failed,) = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert failed.startswith("failed: TS_07: is not an MRC file")
    assert main([*denoise, str(tmp_path / "one"), "--quiet"]) == 1
    assert outputs(tmp_path / "two") == outputs(tmp_path / "one")
    assert len(outputs(tmp_path / "one")) == 49
    assert strays(tmp_path / "two") == []


@pytest.mark.slow
def test_a_call_that_kills_its_worker_is_blamed_and_others_are_done(tmp_path, capfd):
    pytest.importorskip("distributed")
    config = ClusterConfig(workers=2, threads=1, retries=1)
    calls = {name: (os.getpid, (), {}) for name in "abcdef"} | {"poison": (os.abort, (), {})}
    with connected(config) as client:
        assert all(worker.startswith("tcp://127.0.0.1:") for worker in client.nthreads())
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        results, failures = spread(client, config, calls, tmp_path)
    assert sorted(results) == list("abcdef")
    assert list(failures) == ["poison"]
    assert isinstance(failures["poison"], RunError)
    assert "its worker was lost 2 times" in str(failures["poison"])
    assert "distributed." not in capfd.readouterr().err  # the log of Dask
    assert [p.name for p in tmp_path.iterdir()] == []


def test_the_mark_of_a_killed_run_is_removed_by_the_next_one(tmp_path):
    code = "import os, sys; from pathlib import Path; from cryovox.workflows.cluster.tasks import shared\n"
    code += "with shared(Path(sys.argv[1])) as mark: print(mark, flush=True); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.exists()
    with shared(tmp_path) as mark:
        assert mark.exists()
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_lost_scheduler_is_named(processes, tmp_path):
    pytest.importorskip("distributed")
    address = scheduler(processes, tmp_path)
    processes("worker", address, "--nthreads", 1)
    config = ClusterConfig(kind="address", address=address, wait=20)
    with connected(config) as client:
        until = time.monotonic() + PLENTY
        while not client.nthreads() and time.monotonic() < until:
            time.sleep(0.1)
        pid = client.run_on_scheduler(os.getpid)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RunError, match=r"no longer answers|no worker answered"):
            spread(client, config, {"a": (time.sleep, (600,), {})}, tmp_path / "out")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network with random weights and masks of two species, for tomograms of 13 Å."""
    import torch

    from cryovox.core.particles import Species
    from cryovox.models import build
    from cryovox.models.card import Card
    from cryovox.models.checkpoint import save_model

    torch.manual_seed(0)
    options = {"widths": [4, 8]}
    species = (Species(name="a", label=1, radius=60.0), Species(name="b", label=2, radius=80.0))
    facts = {"network": "voxresnet", "options": options, "out_channels": 3, "kind": "mask"}
    grid = {"voxel_size": 13.0, "contrast": "dark", "patch": 16}
    card = Card(activation="softmax", species=species, **facts, **grid)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, build("voxresnet", options, 1, 3), card)
    return path


LARGE = {
    "segment": ("segment", "IN", "--model", "MODEL"),
    "denoise": ("denoise", "IN", "--method", "ibf", "--slab", "16"),
    "match": ("match", "ribosome", "IN", "--angle", "40", "--block-voxels", "90000", "--fdr", "0.5",
              "--decoy", "mirror", "--no-lamella"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", LARGE)
def test_a_large_tomogram_is_split_over_workers_with_exact_joins(model, tmp_path, monkeypatch, command):
    pytest.importorskip("distributed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = tomograms(tmp_path / "in", 1, (150, 30, 32))
    words = {"IN": str(folder), "MODEL": str(model)}
    asked = [*(words.get(word, word) for word in LARGE[command]), "--device", "cpu"]
    (tmp_path / "cluster.yaml").write_text("workers: 2\nthreads: 1\n")
    assert main([*asked, "--out", str(tmp_path / "one"), "--quiet"]) == 0
    told = []
    monkeypatch.setattr(
        "cryovox.cli.interface.screen.Meter.__call__",
        lambda self, name, fraction, note="": told.append(f"{name} {note}"),
    )
    assert main([*asked, "--out", str(tmp_path / "two"), "--cluster", str(tmp_path / "cluster.yaml")]) == 0
    assert "parts 2 of 2 on workers" in told
    assert outputs(tmp_path / "two") == outputs(tmp_path / "one")
    assert len(outputs(tmp_path / "one")) >= 1
    assert strays(tmp_path / "two") == []


@pytest.fixture
def hosts():
    """Two hosts with an Ethernet cable between them, as network namespaces: name -> address."""
    addresses = {f"cvx{os.getpid()}{side}": f"10.213.7.{number}" for number, side in ((1, "a"), (2, "b"))}
    (a, b), run = addresses, lambda *words: subprocess.run(["ip", *words], check=True, capture_output=True)
    try:
        for host in addresses:
            run("netns", "add", host)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces cannot be made here")
    try:
        run("link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b)
        for host, address in addresses.items():
            run("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                run("-n", host, "link", "set", device, "up")
        yield addresses
    finally:
        for host in addresses:
            subprocess.run(["ip", "netns", "del", host], capture_output=True)


@pytest.mark.slow
def test_two_hosts_share_the_work_and_a_folder(processes, hosts, tmp_path):
    pytest.importorskip("distributed")
    folder = tomograms(tmp_path / "in", 8, (40, 40, 40))
    (a, first), (b, second) = hosts.items()
    inside = {host: ["ip", "netns", "exec", host] for host in hosts}
    address = scheduler(processes, tmp_path, first, inside[a])
    assert address.startswith(f"tcp://{first}:")
    for host, own in ((a, first), (b, second)):
        processes("worker", address, "--nthreads", 1, "--host", own, prefix=inside[host])
    (tmp_path / "cluster.yaml").write_text(f"kind: address\naddress: {address}\n")
    program = [sys.executable, "-c", "from cryovox.cli import run; run()"]
    denoise = ["denoise", str(folder), "--method", "ngm", "--device", "cpu", "--quiet", "--out"]
    command = [
        *inside[a],
        *program,
        *denoise,
        str(tmp_path / "two"),
        "--cluster",
        str(tmp_path / "cluster.yaml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PLENTY)
    assert done.returncode == 0, done.stderr
    assert main([*denoise, str(tmp_path / "one")]) == 0
    assert outputs(tmp_path / "two") == outputs(tmp_path / "one")
    noted = json.loads((tmp_path / "two" / "manifest.json").read_text())["denoise"]["entries"]
    assert len(noted) == 8
    outside = subprocess.run([*program, *denoise, str(tmp_path / "no"), "--cluster", address],
                             capture_output=True, text=True, timeout=PLENTY)  # fmt: skip
    assert outside.returncode == 2
    assert "no scheduler answers" in outside.stderr


SBATCH = """#!/bin/bash
copy="$(mktemp)" && cp "$1" "$copy"  # as SLURM does; the script is removed when this returns
setsid bash "$copy" >/dev/null 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
for job in "$@"; do kill -9 -- "-$job"; done
"""


@pytest.mark.slow
# another test may have the port of the dashboard; Dask then warns and leaves a socket open
@pytest.mark.filterwarnings(r"ignore:\s*Port 8787 is already in use")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_jobs_of_a_batch_system_do_the_work(tmp_path, monkeypatch):
    """SLURM is a stand-in that starts the job script at once; the rest is real."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    folder, commands = tomograms(tmp_path / "in", 4), tmp_path / "bin"
    commands.mkdir()
    cluster, out = tmp_path / "slurm.yaml", tmp_path / "jobs"
    cluster.write_text("kind: slurm\nworkers: 2\nthreads: 1\nmemory: 2GB\nhost: 127.0.0.1\n")
    denoise = ["denoise", str(folder), "--method", "ngm", "--device", "cpu", "--quiet", "--out"]
    assert main([*denoise, str(out), "--cluster", str(cluster)]) == 2  # there is no sbatch
    assert not out.exists()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    assert main([*denoise, str(out), "--cluster", str(cluster)]) == 0
    assert main([*denoise, str(tmp_path / "one")]) == 0
    assert outputs(out) == outputs(tmp_path / "one")


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """Address of a scheduler with two workers of one thread."""
    pytest.importorskip("distributed")
    with processes_of_dask() as start:
        address = scheduler(start, tmp_path_factory.mktemp("scheduler"))
        for _ in range(2):
            start("worker", address, "--nthreads", 1)
        yield address


@pytest.fixture
def one_thread():
    """Compute with one thread, as the workers do."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CURATED = "tomogram,x,y,z,species,keep\n" + "".join(
    f"TS_{number:02d},{x},{y},{z},{species},{keep}\n"
    for number in range(3)
    for x, y, z, species, keep in ((100, 120, 140, "a", 1), (200, 180, 160, "b", 0), (150, 150, 150, "a", 0))
)
SCENE = ("--scene.shape", "24", "40", "40", "--scene.voxel-size", "20")
FIND = ("find", "in", "--model", "model.safetensors")
COMMANDS = {
    "find": FIND,
    "curated": (*FIND, "--curated", "curated.csv", "--threshold", "0.1"),
    "match": ("match", "ribosome", "in", "--angle", "60", "--threshold", "0.1", "--mask", "mask.mrc"),
    "denoise": ("denoise", "in", "--method", "ibf", "--sigma-d", "2"),
    "simulate": ("simulate", "--preset", "toy", "--count", "3", *SCENE, "--halves", "tilts"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_two_workers_give_the_bytes_of_one_process(
    two_workers, one_thread, model, tmp_path, monkeypatch, command
):
    """All paths are relative to the folder of the command, and the workers were started elsewhere."""
    monkeypatch.chdir(tmp_path)
    tomograms(tmp_path / "in", 3, (32, 32, 32))
    (tmp_path / "model.safetensors").symlink_to(model)
    (tmp_path / "curated.csv").write_text(CURATED)
    with mrcfile.new(tmp_path / "mask.mrc") as file:
        file.set_data(np.ones((32, 32, 32), np.int8))
        file.set_volume()
        file.voxel_size = 13.0
    common = (*COMMANDS[command], "--device", "cpu", "--quiet", "--out")
    assert main([*common, "one"]) == 0
    assert main([*common, "two", "--cluster", two_workers]) == 0
    assert outputs(Path("two")) == outputs(Path("one"))
    assert len(outputs(Path("one"))) >= 3
    assert strays(Path("two")) == []
    lists = [sorted(Path(p).glob("particles/*")) for p in ("one", "two")]
    assert [p.name for p in lists[0]] == [p.name for p in lists[1]]


@pytest.mark.slow
def test_a_plan_with_workers_starts_nothing(two_workers, model, tmp_path, capsys):
    folder = tomograms(tmp_path / "in", 3, (32, 32, 32))
    asked = ["find", str(folder), "--model", str(model), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*asked, "--dry-run", "--cluster", two_workers]) == 0
    plan = capsys.readouterr().out
    assert "with 2 workers" in plan
    assert "of memory each" in plan
    assert not (tmp_path / "out").exists()


def certificate(folder: Path, name: str, *more: object) -> Path:
    """A certificate by openssl, and its key beside it."""
    file, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-keyout", key, "-out", file, *more],
        check=True, capture_output=True,
    )  # fmt: skip
    return file


@pytest.mark.slow
def test_tls_encrypts_and_keeps_strangers_out(processes, one_thread, tmp_path, capsys):
    pytest.importorskip("distributed")
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    authority = certificate(tmp_path, "authority")
    signed = (
        "-CA",
        authority,
        "-CAkey",
        tmp_path / "authority-key.pem",
        "-addext",
        "basicConstraints=CA:FALSE",
    )
    own, stranger = certificate(tmp_path, "own", *signed), certificate(tmp_path, "stranger")

    def tls(file: Path) -> tuple:
        return ("--tls-ca-file", authority, "--tls-cert", file, "--tls-key", key_of(file))

    def key_of(file: Path) -> Path:
        return file.with_name(f"{file.stem}-key.pem")

    address = scheduler(processes, tmp_path, more=("--protocol", "tls", *tls(own)))
    assert address.startswith("tls://")
    for _ in range(2):
        processes("worker", address, "--nthreads", 1, *tls(own))
    folder = tomograms(tmp_path / "in", 4)
    denoise = ["denoise", str(folder), "--method", "ibf", "--device", "cpu", "--quiet", "--out"]

    def run(name: str, where: str, file: Path | None) -> int:
        cluster = tmp_path / f"{name}.yaml"
        keys = "" if file is None else f"tls: {{ca: {authority}, cert: {file}, key: {key_of(file)}}}\n"
        cluster.write_text(where + keys)
        return main([*denoise, str(tmp_path / name), "--cluster", str(cluster)])

    assert main([*denoise, str(tmp_path / "one")]) == 0
    running = f"kind: address\naddress: {address}\n"
    assert run("two", running, own) == 0
    assert run("started", "workers: 2\nthreads: 1\n", own) == 0
    assert outputs(tmp_path / "two") == outputs(tmp_path / "started") == outputs(tmp_path / "one")
    capsys.readouterr()
    for name, file in (("foreign", stranger), ("plain", None)):
        assert run(name, running, file) == 2
        assert "no scheduler answers" in capsys.readouterr().err
        assert not (tmp_path / name / "denoised").exists()
