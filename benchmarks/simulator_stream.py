"""Throughput of the stream of simulated labeled 32^3 patches.

Six species of the built-in library at 10 Å, boxes of 64 x 96 x 96 voxels, everything else as
`DomainConfig` has it. Poses are computed before the measurement, because a stream computes each of them once.
Wall time is the waiting time of a training; processor time does not depend on other work on the machine.

    python benchmarks/simulator_stream.py                  # one thread
    python benchmarks/simulator_stream.py --workers 2      # two
    python benchmarks/simulator_stream.py --device cuda --workers 8
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from typing import Any

import numpy as np
import torch

from common import write_result
from cryovox.data.imaging_domain import DomainConfig, apply_microscope, sample_transfer
from cryovox.data.patches import TargetSpec
from cryovox.data.sampling import SamplingConfig
from cryovox.data.simulated import SimulatedStream
from cryovox.simulate.particles.library import build_template
from cryovox.simulate.stream.box import fill_box

SPECIES = ("ribosome-80s", "proteasome-26s", "groel", "thyroglobulin", "beta-galactosidase", "ferritin")
VOXEL = 10.0
SIDE, BATCH = 32, 8


def open_stream(kind: str, args: argparse.Namespace) -> SimulatedStream:
    """A stream with precomputed poses."""
    templates = [build_template(name, VOXEL) for name in args.species]
    spec = TargetSpec(kind, 2 if kind == "heatmap" else 1)
    sampling = SamplingConfig(spec, SIDE, BATCH, seed=(args.seed,), device=args.device)
    stream = SimulatedStream(templates, sampling, workers=args.workers)
    for level in range(len(stream.pose_library.voxel_sizes)):
        for template in range(len(templates)):
            for pose in range(stream.pose_library.poses):
                stream.pose_library.get(
                    level, template, pose * (len(stream.pose_library) // stream.pose_library.poses)
                )
    return stream


def speed(kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """Throughput over some seconds, from the second shelf on."""
    start = time.process_time()
    stream = open_stream(kind, args)
    poses = time.process_time() - start
    per_shelf = stream.blocks * stream.domain.patches // BATCH
    shelves = 0
    stream.batch(0)  # the first shelf is ready and the second begun
    wall, processor = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < args.seconds:
        shelves += 1
        for place in range(per_shelf):
            stream.batch(shelves * per_shelf + place)
    elapsed, spent = time.perf_counter() - wall, time.process_time() - processor
    stream.close()
    drawn = shelves * per_shelf * BATCH
    return {
        "target": kind,
        "patches": drawn,
        "patches_per_second": round(drawn / elapsed, 1),
        "patches_per_processor_second": round(drawn / spent, 1),
        "processor_seconds_for_poses": round(poses, 2),
    }


def parts(args: argparse.Namespace, times: int = 12) -> dict[str, float]:
    """Processor time of the steps of one box, in ms."""
    stream, domain = open_stream("mask", args), DomainConfig()
    rng = np.random.Generator(np.random.Philox(args.seed))
    through = sample_transfer(domain, stream.shape, VOXEL, rng)
    filled = fill_box(stream.pose_library, 0, stream.shape, 0.15, rng)
    numbers = itertools.count()
    jobs = {
        "crowd": lambda: fill_box(stream.pose_library, 0, stream.shape, 0.15, rng),
        "transfer (every other box)": lambda: sample_transfer(domain, stream.shape, VOXEL, rng),
        "fourier transforms and noise": lambda: apply_microscope(
            filled.potential, through, domain, rng, args.device
        ),
        "whole box": lambda: stream.block(next(numbers)),
    }
    stream.close()
    return {name: round(milliseconds(job, times), 2) for name, job in jobs.items()}


def milliseconds(job: Any, times: int) -> float:
    """Mean processor time in ms."""
    durations = []
    for _ in range(times):
        start = time.process_time()
        job()
        durations.append(time.process_time() - start)
    return 1e3 * float(np.mean(durations))


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="threads that simulate boxes")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--species", nargs="+", default=list(SPECIES), help="of the built-in library")
    parser.add_argument("--name", default=None, help="name of the result file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    streams = [speed(kind, args) for kind in ("mask", "heatmap")]
    split = parts(args)
    for row in streams:
        print(
            f"{row['target']}: {row['patches_per_second']} patches/s, {row['patches_per_processor_second']} per processor second"
        )
    print(split)
    device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    settings = {
        "species": args.species,
        "side": SIDE,
        "batch": BATCH,
        "voxel_A": VOXEL,
        "workers": args.workers,
        "threads": args.threads,
        "device": device,
        "load_average": round(os.getloadavg()[0], 1),
    }
    name = args.name or f"simulator_stream_{args.device}_{args.workers}"
    print(write_result(name, {"settings": settings, "streams": streams, "milliseconds": split}))


if __name__ == "__main__":
    main()
