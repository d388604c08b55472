"""What `--cluster` asks for; imports no Dask, so that refusals are quick."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from cryovox.core.config import Config, from_yaml
from cryovox.core.errors import RequestError

OPTION = "--cluster"
REMEDY = "give local:N, the address of a scheduler such as tcp://10.0.0.1:8786, or a YAML file"
SCHEMES = ("tcp://", "tls://", "ucx://")


class TlsConfig(Config):
    """Files with which connections are encrypted and both sides prove who they are."""

    ca: Path
    """Certificate of the authority."""
    cert: Path
    """Certificate of this user."""
    key: Path
    """Key of the certificate."""


class ClusterConfig(Config):
    """Workers on which tomograms are processed."""

    kind: Literal["local", "address", "slurm", "pbs", "lsf", "sge"] = "local"
    """Processes on this machine, a scheduler that runs, or jobs of a batch system."""
    workers: int = Field(1, ge=1)
    """Number of worker processes or, for a batch system, of jobs."""
    threads: int | None = Field(None, ge=1)
    """Threads that a worker computes with; by default the cores of this machine divided by the local workers,
    else 1."""
    memory: str | None = None
    """Memory of a worker, such as 16GB; required for a batch system."""
    address: str | None = None
    """Address of a running scheduler, for the kind `address`."""
    host: str | None = None
    """Address on which the scheduler listens. Local workers use the loopback device; jobs need an address, or
    an interface, that they can reach."""
    interface: str | None = None
    """Network interface on which the scheduler listens, in place of an address."""
    tls: TlsConfig | None = None
    """Encryption."""
    retries: int = Field(2, ge=0)
    """How often a tomogram is tried again after its worker was lost or a disk did not answer."""
    wait: float = Field(600.0, gt=0)
    """Seconds to wait for a worker before the run ends."""
    options: dict[str, Any] = Field({})
    """Further arguments of the class of dask-jobqueue, such as queue, walltime and job_extra_directives."""

    @model_validator(mode="after")
    def _agrees(self, info: ValidationInfo) -> Self:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("the kind `address` and an address go together")
        if self.kind in ("slurm", "pbs", "lsf", "sge"):
            if self.memory is None:
                raise ValueError(f"{self.kind} jobs need `memory`, such as 16GB")
            if self.host is None and self.interface is None:
                raise ValueError("jobs need `host` or `interface`: where they can reach the scheduler")
        return self

    def workers_of(self, client: Any) -> int:
        """Workers that there will be; those of a scheduler that runs are counted."""
        return len(client.nthreads()) if self.kind == "address" else self.workers

    @property
    def torch_threads(self) -> int:
        """Threads of a worker."""
        if self.threads is not None:
            return self.threads
        return max(1, (os.cpu_count() or 1) // self.workers) if self.kind == "local" else 1


def read_cluster(text: str) -> ClusterConfig:
    """The workers that `--cluster` names.

    Examples
    --------
    >>> read_cluster("local:3").workers
    3
    >>> read_cluster("tcp://127.0.0.1:8786").kind
    'address'
    """
    if text.startswith(SCHEMES):
        return ClusterConfig(kind="address", address=text)
    if text == "local" or text.startswith("local:"):
        count = text.partition(":")[2] or str(os.cpu_count() or 1)
        if not count.isdecimal() or int(count) < 1:
            raise RequestError(OPTION, f"{text!r} does not say how many workers", "give local:2, for example")
        return ClusterConfig(workers=int(count))
    path = Path(text)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise RequestError(OPTION, f"{text!r} is no cluster", REMEDY)
    return from_yaml(ClusterConfig, path)
