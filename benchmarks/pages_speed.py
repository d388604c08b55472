"""Text of the pages on time and memory of `find`, on patches per second, and on bfloat16."""

from __future__ import annotations

from itertools import product
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import curve_fit

from cryovox.benchmark.tables import grid

REFUSED = "refused"
Result = dict[str, Any] | None
PRECISIONS = ("float32", "bfloat16")


def growth_law(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Constant, factor and exponent of the processor time by voxels, from rows without a limit of memory.

    Relative errors count, since seconds vary by a share of themselves.
    """
    free = [row for row in rows if row["max_ram"] is None]
    millions = np.array([np.prod(row["shape"]) / 1e6 for row in free])
    seconds = np.array([row["processor_seconds"] for row in free])

    def law(voxels: Any, constant: float, factor: float, exponent: float) -> Any:
        return constant + factor * voxels**exponent

    fitted, _ = curve_fit(law, millions, seconds, p0=(2.0, 1.0, 1.0), sigma=seconds, bounds=(0, np.inf))
    return float(fitted[0]), float(fitted[1]), float(fitted[2])


def limits(result: Result) -> str:
    """Processor time and memory of find by the size of the tomogram."""
    if result is None:
        return ""
    done = sorted(result["rows"], key=lambda row: (np.prod(row["shape"]), row["max_ram"] or ""))
    rows = [
        [
            " x ".join(map(str, row["shape"])),
            row["max_ram"] or "none",
            f"{row['processor_seconds']:.1f}",
            f"{1e6 * row['processor_seconds'] / np.prod(row['shape']):.2f}",
            f"{row['peak_GB']:.2f}",
        ]
        for row in done
    ]
    columns = ["voxels", "--max-ram", "processor s", "µs per voxel", "highest memory, GB"]
    constant, factor, exponent = growth_law(done)
    return f"""
## Time and memory of `find`

The {result["model"]} model (four outputs) on one thread: segmentation, picking, noise control and report of one tomogram, in a process of its own, with
everything that Python and torch need. Memory is the highest resident memory that the system counted.

![Processor time and memory by the number of voxels](../images/benchmarks/speed-limits.svg)

{grid(columns, rows)}

Command: `{result["command"]}`, once for each row

A fit of the rows without a limit, by relative errors: {constant:.1f} s + {factor:.2f} s per million voxels to the power {exponent:.2f}.
"""


def versions(result: Result) -> str:
    """Small volumes beside other versions of the program."""
    if result is None:
        return ""
    rows = []
    for row in result["rows"]:
        own = row["runs"]["this version"]
        for name, runs in row["runs"].items():
            ratios = [a["processor_seconds"] / b["processor_seconds"] for a, b in zip(own, runs, strict=True)]
            rows.append([
                " x ".join(map(str, row["shape"])), name,
                f"{median(run['processor_seconds'] for run in runs):.1f}",
                f"{median(ratios):.2f}",
                f"{median(run['peak_GB'] for run in runs):.2f}",
            ])  # fmt: skip
    columns = ["voxels", "version (commit)", "processor s", "this version / it", "highest memory, GB"]
    same = "; ".join(
        f"{row['picks']} picks, at most {row['largest_difference_A']:g} Å from those of the version before"
        for row in result["rows"]
        if row["largest_difference_A"] is not None
    )
    return f"""
## Small volumes, beside earlier versions

The versions in turn with the same libraries, medians of {result["rounds"]} rounds: {same}.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def growth(result: Result) -> str:
    """Time and memory by the number of species and the size of the network."""
    if result is None:
        return ""
    rows = [
        [row["size"], str(row["species"]), f"{row['weights'] / 1e6:.3f}", f"{row['processor_seconds']:.1f}", f"{row['peak_GB']:.2f}"]
        for row in result["rows"]
    ]  # fmt: skip
    columns = ["size", "species", "weights, M", "processor s", "highest memory, GB"]
    return f"""
## Number of species and size of the network

`find` on {" x ".join(map(str, result["shape"]))} voxels with heatmap-unet and random weights, tiles of {result["tile"]} voxels with an overlap of
{result["overlap"]:g}. No score reaches the threshold, so the time of more picks is not part of it.

![Processor time and memory by species and size](../images/benchmarks/speed-growth.svg)

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def patches(result: Result) -> str:
    """Patches per second of every network, share of the peak, and the decoder of MVGFormer in both forms."""
    if result is None:
        return ""
    peaks = result["machine_peaks"]
    rows = []
    for row in sorted(result["rows"], key=lambda row: -share(row, "float32", peaks)):
        full, half = (row[precision] for precision in PRECISIONS)
        rows.append([
            row["network"], row["size"], f"{row['batch']} x {row['patch']}^3", f"{row['flops'] / 1e9:.2f}",
            f"{full['patches_per_s']:.3g}", f"{share(row, 'float32', peaks):.2f}",
            f"{half['patches_per_s']:.3g}", f"{share(row, 'bfloat16', peaks):.2f}",
            f"{half['patches_per_s'] / full['patches_per_s']:.2f}",
            f"{row['flops'] / full['bytes']:.1f}",
        ])  # fmt: skip
    columns = ["network", "size", "batch", "GFLOP per patch", "float32, patches/s", "share of peak", "bfloat16, patches/s",
               "share of peak", "bfloat16 / float32", "FLOP per byte, float32"]  # fmt: skip
    machine = [[name, f"{value:.1f}"] for name, value in peaks.items()]
    return f"""
## Patches per second of every network on a CPU

Networks with {result["species"]} species score batches on {result["threads"]} thread, both precisions in turn, each once without measurement; the least
processor time of {result["rounds"]} round{"" if result["rounds"] == 1 else "s"}.
A share of 1 is the speed of a product of two matrices of 1024 x 1024 in the same precision and the same run. Bytes are what all
operators read and write, as if nothing stayed in a cache.

![Roofline of every network in float32 and bfloat16](../images/benchmarks/roofline.svg)

{grid(columns, rows)}

In the same run:

{grid(["figure of the machine", "value"], machine)}

{decoders(result["decoders"], peaks) if "decoders" in result else ""}
Command: `{result["command"]}`
"""


def share(row: dict[str, Any], precision: str, peaks: dict[str, float]) -> float:
    """Operations per second as a share of those of a matrix product."""
    return float(row[precision]["Gflop_per_s"]) / peaks[f"matmul {precision}, Gflop/s"]


def decoders(result: dict[str, Any], peaks: dict[str, float]) -> str:
    """MVGFormer of the size of the paper with both forms of its decoder."""
    rows = []
    best = {}
    for form, flops in result["flops"].items():
        for precision in PRECISIONS:
            named = {
                key: value
                for key, value in result["seconds"].items()
                if key.startswith(f"{form}, {precision}")
            }
            layout, taken = min(named.items(), key=lambda item: item[1])
            best[form, precision] = taken
            reached = flops / taken / 1e9 / peaks[f"matmul {precision}, Gflop/s"]
            shown = f"{reached:.2f}" if form == "factored" else "see the remarks"
            weights = layout.rpartition(", ")[2]
            rows.append([form, precision, weights, f"{flops / 1e9:.0f}", f"{1 / taken:.3f}", shown])
    columns = ["decoder", "precision", "fastest weights", "GFLOP per patch", "patches/s", "share of peak"]
    fastest = {form: min(best[form, precision] for precision in PRECISIONS) for form in result["flops"]}
    ratios = [f"{best['plain', p] / best['factored', p]:.1f} times in {p}" for p in PRECISIONS]
    return f"""MVGFormer of the size of the paper, one patch at a time, with P3DA as this package computes it (factored) and as the paper
prints it (plain: enlarge, convolve at full resolution, concatenate, classify):

{grid(columns, rows)}

The whole network is {" and ".join(ratios)} as fast with the factored form, and {fastest["plain"] / fastest["factored"]:.1f} times with each form at its fastest setting.
"""


def half_precision(result: Result) -> str:
    """F1 and scores in float32 and bfloat16."""
    if result is None:
        return ""
    rows = []
    for row in result["rows"]:
        full, half = (row["f1"][precision] for precision in ("fp32", "bf16"))
        rows.append([
            row["model"], row["world"], str(row["tomograms"]), str(row["particles"]),
            f"{row['picks']['fp32']}, {row['picks']['bf16']}", f"{full:.4f}", f"{half:.4f}", f"{half - full:+.4f}",
            str(row["unmatched_picks"]), f"{row['largest_score_difference']:.3f}",
        ])  # fmt: skip
    columns = ["model", "domain", "tomograms", "particles", "picks, float32 and bfloat16", "F1, float32", "F1, bfloat16", "difference",
               "picks without counterpart", "largest difference of a score"]  # fmt: skip
    return f"""
## Inference in bfloat16: scores and picks

`find` with `--precision fp32` and `bf16` on simulated tomograms, at the models' own thresholds, on {result["threads"]} thread. The embedded model
finds particles of any size; hits of the other one have the species of the particle. A pick without counterpart has no other one of
its species within half a voxel.

{grid(columns, rows)}

{pooled(result["rows"])}

{whole_runs(result.get("find"))}

Command: `{result["command"]}`
"""


def half_precision_training(result: Result) -> str:
    """Scores of trainings of equal length in both precisions, and the ratio of their times."""
    if result is None:
        return ""
    rows = []
    for world, row in result["worlds"].items():
        full, half = row["scores"]
        gain = row["difference"]
        spread = f"{gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
        times = ", ".join(f"{ratio:.2f}" for ratio in row["time_ratios"])
        rows.append([world, f"{full:.4f}", f"{half:.4f}", spread, times])
    columns = ["data", "float32", "bfloat16", "difference [95 % CI]", "time relative to float32, by seed"]
    seeds = len({run["seed"] for run in result["runs"]})
    return f"""
## Trainings in bfloat16: scores after equal steps

{result["steps"]} steps with the defaults of `cryovox train supervised`, on one thread; mean of {seeds} seeds, which draw weights and patches alike for both. The score is the mean
F1 at the best thresholds (picking) or the mean Dice (masks) on tomograms that were not trained on. The interval is a bootstrap over the seeds.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def backends(result: Result) -> str:
    """Milliseconds of a tile and differences of scores of other back ends."""
    if result is None:
        return ""
    kinds = list(dict.fromkeys(kind for row in result["rows"] for kind in row["seconds"]))
    times, scores = [], []
    for row in result["rows"]:
        seconds = row["seconds"]
        ratios = [
            f"{seconds[f'PyTorch, {p}'] / seconds[f'OpenVINO, {p}']:.2f}"
            if f"OpenVINO, {p}" in seconds
            else REFUSED
            for p in ("float32", "bfloat16")
        ]
        times.append([row["network"], str(row["side"]), str(row["batch"]),
                      *(f"{1e3 * seconds[k]:.1f}" if k in seconds else "" for k in kinds), *ratios])  # fmt: skip
        apart = row["difference"]
        scores.append([row["network"], *(f"{apart[k]:.4f}" if k in apart else REFUSED for k in kinds[1:])])
    heads = ["network", "tile", "batch", *(f"{kind}, ms" for kind in kinds),
             "gain by OpenVINO, float32", "gain by OpenVINO, bfloat16"]  # fmt: skip
    return f"""
## Inference on a CPU: OpenVINO and ONNX Runtime

Networks of size s and the embedded model score a batch of noise on {result["threads"]} thread as the tiler does, all back ends in turn; least processor time of a tile in
{result["rounds"]} rounds. A gain is the time of PyTorch over that of OpenVINO in the same precision.

{grid(heads, times)}

Largest difference of a score from PyTorch in float32 (initial weights but for the embedded model):

{grid(["network", *kinds[1:]], scores)}

Command: `{result["command"]}`
"""


def heatmap_variants(result: Result) -> str:
    """F1 and costs of cheaper forms of the heatmap network."""
    if result is None:
        return ""
    rows = []
    for name, costs in result["costs"].items():
        own = [run for run in result["runs"] if run["network"] == name]
        scores, steps = (
            ", ".join(f"{run[key]:{form}}" for run in own) for key, form in (("score", ".3f"), ("steps", "d"))
        )
        rows.append(
            [
                name,
                scores,
                steps,
                *(f"{costs[key]:.1f}" for key in ("step", "tile", "tile, bfloat16", "weights")),
            ]
        )
    columns = [
        "network",
        "F1",
        "steps",
        "training step, ms",
        "tile, float32, ms",
        "tile, bfloat16, ms",
        "weights, thousands",
    ]
    return f"""
## Cheaper forms of heatmap-unet

{result["time"]} of processor time for each training in float32, on one thread; values by seed. F1 is the mean over six species at the best thresholds, on two tomograms of a
smaller CZII phantom that were not trained on. A training step is forward and backward pass of four patches of 48 x 48 x 48 voxels.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def faces(result: Result) -> str:
    """Recall at the faces of a volume, by what the network sees beyond them."""
    if result is None:
        return ""
    near, seeds = "recall of that of the whole, within a radius", {run["seed"] for run in result["runs"]}
    rows, distances = [], []
    ends = [f"{a:g} to {b:g}" for a, b in zip(result["edges"], result["edges"][1:], strict=False)]
    for cut, halo in product(dict.fromkeys(run["cut"] for run in result["runs"]), result["runs"][0]["halos"]):
        own = [run["halos"][halo] for run in result["runs"] if run["cut"] == cut]
        false = [sum(run["false picks by distance"][: sum(e < 1 for e in result["edges"])]) for run in own]
        values = [run[near] for run in own]
        rows.append([f"{cut:g}", halo, f"{np.mean(values):.3f}", ", ".join(f"{v:.3f}" for v in values),
                     ", ".join(map(str, false))])  # fmt: skip
        if halo == "constant":
            means = np.mean([run["by distance"] for run in own], axis=0)
            distances.append([f"{cut:g}", *(f"{value:.2f}" for value in means[: len(ends)])])
    return f"""
## Recall at the faces of a volume

The same particles in whole tomograms and in crops whose new faces cut them, {len(seeds)} seeds of a heatmap network (`--border 0`). Beyond the face the network sees
nothing (`none`), the mean (`constant`, the default of cryovox), the edge repeated, or the mirrored volume. Recall within a radius of the face, over that of the same
particles in the whole tomogram; false picks there.

{grid(["share of cut patches in training", "beyond the face", "mean", "by seed", "false picks, by seed"], rows)}

With the mean beyond the face, by distance in radii:

{grid(["share of cut patches in training", *ends], distances)}

Command: `{result["command"]}`
"""


def pooled(rows: list[dict[str, Any]]) -> str:
    """F1 over all domains of a model."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        scores = {}
        for precision in ("fp32", "bf16"):
            sizes = [row["picks"][precision] + row["particles"] for row in own]
            scores[precision] = np.average([row["f1"][precision] for row in own], weights=sizes)
        full, half = scores["fp32"], scores["bf16"]
        count = sum(row["tomograms"] for row in own)
        lines.append(
            f"- {model}, all {count} tomograms: F1 {full:.4f} in float32, {half:.4f} in bfloat16 ({half - full:+.4f})."
        )
    return "\n".join(lines)


def whole_runs(result: Result) -> str:
    """Processor time of the whole command in both precisions."""
    if result is None:
        return ""
    full, half = (result["seconds"][precision] for precision in ("fp32", "bf16"))
    ratio = median(a / b for a, b in zip(full, half, strict=True))
    return (
        f"`find` with the embedded model on {' x '.join(map(str, result['shape']))} voxels, with start, picking, noise control and report, takes\n"
        f"{median(full):.1f} processor seconds in float32 and {median(half):.1f} in bfloat16: {ratio:.2f} times as fast (medians of {len(full)} rounds in turn)."
    )
