"""Start or reach the workers, as Dask and dask-jobqueue do."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from cryovox.core.errors import RequestError
from cryovox.workflows.cluster.config import OPTION, REMEDY, ClusterConfig

LOOPBACK = "127.0.0.1"
JOBS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
LOG = {"distributed": "critical", "distributed.client": "critical"}
"""Lost workers and repeated calls are told by the command; the log of Dask is for those who ask for it."""
QUIET = {
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING": str(LOG),
    "distributed.worker.daemon": True,
    "distributed.admin.large-graph-warning-threshold": "1GB",
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.worker-saturation": 1.0,
}


@contextmanager
def connected(config: ClusterConfig) -> Iterator[Any]:
    """Yield a client of the workers; those that are started here end with the block.

    A scheduler that is started here listens on the loopback device, unless the settings name a host or an
    interface.
    """
    dask = _imported("dask")
    if not dask.config.get("logging", None):
        dask.config.set({"logging": LOG})
    distributed = _imported("distributed")
    settings = QUIET | {"distributed.scheduler.allowed-failures": config.retries}
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        security = _security(distributed, config)
        target: Any = config.address
        if config.kind != "address":
            make = _local if config.kind == "local" else _submitted
            target = stack.enter_context(make(distributed, config, security))
        try:
            client = distributed.Client(target, security=security, timeout="20s", set_as_default=False)
        except OSError as error:
            message = f"no scheduler answers at {config.address} ({str(error).splitlines()[0]})"
            raise RequestError(
                OPTION, message, "start it with `dask scheduler`, and check address and TLS"
            ) from None
        yield stack.enter_context(client)


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        remedy = "install it with `pip install 'cryovox[cluster]'`"
        raise RequestError(OPTION, f"needs the package {name}, which is not installed", remedy) from None


def _security(distributed: Any, config: ClusterConfig) -> Any:
    tls = config.tls
    if tls is None:
        if (config.address or "").startswith("tls://") and not _knows_certificates(distributed):
            message = f"no scheduler answers at {config.address} without certificates"
            raise RequestError(
                OPTION, message, "name them in a YAML file: tls: {ca: FILE, cert: FILE, key: FILE}"
            )
        return None
    for path in (tls.ca, tls.cert, tls.key):
        if not path.is_file():
            raise RequestError(path, "does not exist", "name the files of TLS in the YAML of --cluster")
    own = {f"tls_{role}_{kind}": str(path) for role in ("client", "scheduler", "worker")
           for kind, path in (("cert", tls.cert), ("key", tls.key))}  # fmt: skip
    return distributed.Security(tls_ca_file=str(tls.ca), require_encryption=True, **own)


def _knows_certificates(distributed: Any) -> bool:
    """Whether the settings of Dask name certificates."""
    return distributed.Security().get_connection_args("client").get("ssl_context") is not None


def _local(distributed: Any, config: ClusterConfig, security: Any) -> Any:
    """Processes of this machine, one per GPU where there are some."""
    host = config.host or LOOPBACK
    scheme = "tls" if security is not None else "tcp"
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {
            "host": host, "port": 0, "protocol": f"{scheme}://", "security": security,
            "dashboard_address": f"{host}:0", "dashboard": _has_bokeh(),
        },
    }  # fmt: skip
    gpus = _gpus()
    workers = {
        number: {
            "cls": distributed.Nanny,
            "options": {
                "host": host, "nthreads": 1, "memory_limit": config.memory or 0, "security": security,
                "protocol": f"{scheme}://", "dashboard": False,
                "env": environment(config.torch_threads, gpus[number % len(gpus)] if gpus else None),
            },
        }
        for number in range(config.workers)
    }  # fmt: skip
    return distributed.SpecCluster(workers=workers, scheduler=scheduler, security=security)


def environment(threads: int, gpu: str | None = None) -> dict[str, str]:
    """Variables of a worker process: pinned threads, few messages and, where there are GPUs, one device."""
    quiet = {"DASK_LOGGING": str(LOG)}
    pinned = quiet | {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
    return pinned | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})


def _gpus() -> list[str]:
    """Devices of this machine, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = visible.split(",") if visible else [str(i) for i in range(count)]
    return names[:count]


def _has_bokeh() -> bool:
    try:
        import_module("bokeh")
    except ImportError:
        return False
    return True


def _jobs(distributed: Any, config: ClusterConfig, security: Any) -> Any:
    """Jobs of a batch system, each with one worker process."""
    jobqueue = _imported("dask_jobqueue")
    threads = config.torch_threads
    prologue = [f"export {name}={shlex.quote(value)}" for name, value in environment(threads).items()]
    where = {"interface": config.interface} if config.interface else {}
    scheduler = {"host": config.host} if config.host else {"interface": config.interface}
    fixed: dict[str, Any] = {
        "cores": threads, "processes": 1, "memory": config.memory, "security": security,
        "worker_extra_args": ["--nthreads", "1"], "scheduler_options": scheduler, **where,
    }  # fmt: skip
    if twice := sorted(fixed.keys() & config.options.keys() - {"worker_extra_args", "scheduler_options"}):
        raise RequestError(OPTION, f"options: {twice[0]} is set by other keys", "leave it out of `options`")
    options = {**fixed, **config.options}
    options["worker_extra_args"] = [*fixed["worker_extra_args"], *config.options.get("worker_extra_args", [])]
    options["job_script_prologue"] = [*prologue, *config.options.get("job_script_prologue", [])]
    try:
        return getattr(jobqueue, JOBS[config.kind])(**options)
    except (TypeError, ValueError) as error:
        raise RequestError(OPTION, f"{config.kind}: {error}", REMEDY) from None


def _submitted(distributed: Any, config: ClusterConfig, security: Any) -> Any:
    """Jobs in the queue of the batch system."""
    cluster = _jobs(distributed, config, security)
    command = cluster.job_cls.submit_command.split()[0]
    if shutil.which(command) is None:
        cluster.close()
        message = f"{config.kind}: there is no {command} on this machine"
        raise RequestError(OPTION, message, "run the command where jobs are submitted")
    cluster.scale(jobs=config.workers)
    return cluster


def job_script(config: ClusterConfig) -> str:
    """The script that would be submitted for each job."""
    with _jobs(_imported("distributed"), config, None) as cluster:
        return str(cluster.job_script())
