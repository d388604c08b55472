"""Text of the result pages: one function per script of this folder, and one for all suites."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import pages_cluster
import pages_interchange
import pages_mutation
import pages_speed
from cryovox.benchmark.adaptation.suite import selection_summary
from cryovox.benchmark.tables import cell, display_name, grid, markdown
from matching_pages import TEMPLATE_MATCHING

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def load(name: str) -> dict[str, Any] | None:
    """A result file, or None if it does not exist."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def span(interval: dict[str, float], sign: str = "") -> str:
    """A value with its interval."""
    return f"{interval['value']:{sign}.3f} [{interval['low']:{sign}.3f}, {interval['high']:{sign}.3f}]"


PICKED, OBJECTS = 127, (320, 380)
"""Picks of the real tomogram, and an estimate of its ribosome-like objects."""


def recall_cap(candidates: int) -> str:
    """Expected recall of a perfect detector on the real tomogram, for both estimates of the objects."""
    low, high = (f"{min(1.0, candidates * PICKED / objects):.2f}" for objects in reversed(OBJECTS))
    return low if low == high else f"{low} to {high}"


def caps() -> str:
    """Recall that no detector can exceed on the real tomogram."""
    listed = ", ".join(f"{recall_cap(n)} at {n}x" for n in (1, 2, 3, 4))
    return (
        f"The picks are about a third of the {OBJECTS[0]} to {OBJECTS[1]} ribosome-like objects of the tomogram, so no detector\n"
        f"can be expected to exceed a recall of {listed}.\n"
        "Recall at 3x and 4x compares detectors ([simulated likeness](real_likeness.md))."
    )


def real(name: str, title: str) -> str:
    """Recall at candidate budgets on the real tomogram."""
    result = load(name)
    if result is None:
        return ""
    rows = [
        [
            f"{budget}x",
            span(row["recall"]),
            ", ".join(f"{v:.3f}" for v in row["per_seed"]),
            span(row["blobs"]),
            span(row["difference"], "+"),
            recall_cap(int(budget)),
        ]
        for budget, row in result["table"].items()
    ]
    columns = [
        "candidates per pick", "recall [95 % CI]", "by seed", "difference-of-Gaussians picker", "paired difference",
        "cap for any detector",
    ]  # fmt: skip
    seconds = [run["train_seconds"] for run in result["runs"]]
    settings = result["settings"]
    settings_text = "; ".join(
        f"y {b['block'][0]}-{b['block'][1]}: {fact(b['settings'])}" for b in result["blobs"]
    )
    together = result.get("averaged", {})
    averaged = "; ".join(
        f"{b}x {span(r['recall'])}, difference {span(r['difference'], '+')}" for b, r in together.items()
    )
    more = f"\nScores averaged over the seeds: {averaged}.\n" if averaged else ""
    return f"""
## {title}

Recall of {sum(b["picks"] for b in result["blobs"])} ribosomes (EMPIAR-11658, 31.36 Å, half a tomogram) within
{settings["match_A"]:.0f} Å by number of candidates per pick. Cross-validation over three y-blocks;
{len({r["seed"] for r in result["runs"]})} seeds; the bootstrap resamples picks, whose value is the mean over the seeds.
{caps()}

{grid(columns, rows)}
{more}
One training took {min(seconds):.0f} to {max(seconds):.0f} s on one thread, beside other runs on the same two cores. Settings of the
difference-of-Gaussians picker, selected on the training blocks: {settings_text}.

Command: `{result["command"]}`
"""


def limit() -> str:
    """Recall of classifiers of candidates on the same picks."""
    result = load("real_ribosomes_limit")
    if result is None:
        return ""
    budgets = list(next(iter(result["table"].values())))
    rows = [[name, *(f"{values[b]:.3f}" for b in budgets)] for name, values in result["table"].items()]
    return f"""
### Classification of candidates

{result["candidates"]} candidates of the difference-of-Gaussians picker on y < 160, {result["picks"]} picks, four folds: recall with the ranking
of small classifiers of picked against unpicked candidates.

{grid(["ranked by", *budgets], rows)}

Command: `{result["command"]}`
"""


RECALLS = ("recall_1x", "recall_2x", "recall_3x", "recall_4x", "recall_3x_4x")


def likeness(name: str, title: str) -> str:
    """Recall of a labeled third beside scores over all ribosomes, on the simulated likeness."""
    result = load(name)
    if result is None:
        return ""
    settings, runs = result["settings"], result["runs"]
    detectors = list(dict.fromkeys(run["detector"] for run in runs))
    metrics = (*RECALLS, "average_precision", "best_f1")
    shares = ("top_at_ribosome", "top_at_other", "top_at_neither")
    scores = [[d, *(by_seed(runs, d, m) for m in metrics)] for d in detectors]
    scores.append(
        ["cap for any detector", *(f"{result['cap'].get(m, 1):.3f}" for m in RECALLS[:4]), "", "", ""]
    )
    places = [[d, *(by_seed(runs, d, m) for m in (*shares, "recall_of_all_candidates"))] for d in detectors]
    ranks = [
        [
            label(m),
            *(
                f"{row['mean']:.2f} ({', '.join(f'{v:.2f}' for v in row['by_seed'])})"
                for row in row_of.values()
            ),
        ]
        for m, row_of in result["rank_correlation"].items()
    ]
    changes = [
        [name, *(span(row[m], "+") for m in ("recall_3x_4x", "recall_4x", "average_precision", "best_f1"))]
        for name, row in result["differences_from_ignored"].items()
    ]
    return f"""
## {title}

{settings["ribosomes"]} ribosomes among other complexes and membranes, matched to y < 160 of the real tomogram. A random third is labeled;
detectors train on the labels of y < 160 and are scored on y >= 160, within {settings["match_A"]:.0f} Å: recall of the labeled ribosomes by
number of candidates per label, and average precision and the best F1 over all ribosomes. {len({r["seed"] for r in runs})} seeds draw the tomogram, the labels
and the weights; {settings["steps"]} steps of {settings["batch"]} patches of {settings["patch"]}³ voxels. Mean ± standard deviation over seeds:

{grid(["detector, and its treatment of unlabeled voxels", *map(label, metrics)], scores)}

Spearman rank correlation over the detectors of each recall with scores over all ribosomes, mean (by seed):

{grid(["recall", *map(label, next(iter(result["rank_correlation"].values())))], ranks)}

Difference from ignoring unlabeled voxels [95 % CI over seeds]:

{grid(["treatment", *map(label, ("recall_3x_4x", "recall_4x", "average_precision", "best_f1"))], changes)}

Where the 4x best candidates lie, and the recall of the labeled ribosomes by all candidates of a detector:

{grid(["detector", "at a ribosome", "at another complex", "at neither", "recall of all candidates"], places)}

Command: `{result["command"]}`
"""


def label(metric: str) -> str:
    """A metric of the likeness in words."""
    words = {
        "average_precision": "average precision",
        "best_f1": "best F1",
        "precision": "precision at the true count",
    }
    return words.get(metric) or "recall at " + metric.removeprefix("recall_").replace("_", " and ")


def by_seed(runs: list[dict[str, Any]], detector: str, metric: str) -> str:
    """Mean and standard deviation of a metric over the seeds of a detector."""
    values = [run[metric] for run in runs if run["detector"] == detector]
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def organism() -> str:
    """AUC of 70S ribosomes against shifted crops."""
    result = load("mpneumoniae_70s")
    if result is None:
        return ""
    rows = [
        [
            name,
            span(row["auc"]),
            *(", ".join(f"{v:.3f}" for v in row[k]) for k in ("by_seed", "pooled_by_seed")),
            span(row["difference"], "+"),
        ]
        for name, row in result["table"].items()
    ]
    columns = [
        "score",
        "AUC within boxes [95 % CI]",
        "by seed",
        "AUC over all crops, by seed",
        "paired difference from gray value",
    ]
    settings = result["settings"]
    return f"""
## Ribosomes of another organism

Forty 70S ribosomes of *Mycoplasma pneumoniae* (EMPIAR-10499), binned to {settings["voxel_A"]:.0f} Å: probability that the crop at the particle
scores higher than a crop of the same box shifted by 125 Å (AUC within boxes). Training: {settings["tomograms"]} simulated tomograms with 70S
ribosomes per seed, {settings["steps"]} steps; no real data. The bootstrap resamples particles, whose value is the mean over the seeds.
On crops of a simulated test tomogram the same networks have {", ".join(f"{v:.3f}" for v in result["simulated_auc_by_seed"])}.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def folds() -> str:
    """Single folds of the third-party simulations, a row per training."""
    rows = []
    for path in sorted(RESULTS.glob("sim_deepfinder-*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if len(result["settings"]["folds"]) > 1:  # the scores are pooled over folds
            continue
        for run in result["runs"]:
            scores = result["seeds"][run["network"]][run["seed"]]
            facts = [run["network"], result["settings"]["time"], str(run["test"]), str(run["steps"])]
            values = (run["held_out"], scores["mean"]["dice"], scores["mean"]["f1"], scores["any"]["f1"])
            rows.append([*facts, *(f"{v:.3f}" for v in values)])
    if not rows:
        return ""
    columns = ["network", "processor time", "test tomogram", "steps", "held-out slab, mean Dice", "mean Dice",
               "F1 with the class", "F1 regardless of the class"]  # fmt: skip
    return f"""
## Longer trainings

Training on three tomograms, test on the fourth. Networks and settings may be selected on the held-out slab of the training tomograms
only.

{grid(columns, rows)}
"""


def agnostic(name: str) -> str:
    """Particles of any species in the third-party simulations, from a matched source."""
    result = load(name)
    if result is None:
        return ""
    rows = [
        [name, *(span(row[m]) for m in ("dice", "localisation_f1"))] for name, row in result["table"].items()
    ]
    settings = result["settings"]
    return f"""
## Regardless of the species, without any label of the target

{settings["network"]}, trained for {settings["time"]} of one thread on {settings["tomograms"]} simulated tomograms per seed that were matched to
tomogram 1 without its labels; no adaptation. {len(result["runs"])} seeds; 95 % CI over seeds. Vox-UDA on an unmatched source: [suite](suite-uda-tomograms.md).

{grid(["tested on", "Dice", "localization F1"], rows)}

Command: `{result["command"]}`
"""


def simulated(name: str, title: str) -> str:
    """Dice and F1 of networks on the third-party simulations."""
    result = load(name)
    if result is None:
        return ""
    table = result["table"]
    kinds = list(next(iter(table.values())))
    cell = lambda pair: f"{pair[0]:.3f} ± {pair[1]:.3f}"  # noqa: E731
    parts = []
    for metric in ("dice", "f1"):
        rows = [[kind, *(cell(table[net][kind][metric]) for net in table)] for kind in kinds]
        parts.append(
            f"{'Dice' if metric == 'dice' else 'F1'}, mean ± standard deviation over seeds:\n\n"
            + grid(["class", *table], rows)
        )
    steps = {net: [r["steps"] for r in result["runs"] if r["network"] == net] for net in table}
    folds = f" of the folds {fact(result['settings']['folds'])}" if "folds" in result["settings"] else ""
    steps_text = ", ".join(f"{net} {min(s)} to {max(s)}" for net, s in steps.items())
    return f"""
## {title}

Four simulated tomograms of 100³ voxels with nine classes, three objects per class in each. Leave-one-out
cross-validation with pooled scores{folds}; {result["settings"]["time"]} of one thread per training. `any` ignores the
class; `mean` averages over classes. Training steps: {steps_text}.

{parts[0]}

{parts[1]}

Command: `{result["command"]}`
"""


def speed() -> str:
    """Time and memory of the presets of the simulator."""
    result = load("simulator_speed")
    if result is None:
        return ""
    rows = [
        [
            name,
            f"{row['seconds']:.0f}",
            f"{row['cpu_seconds']:.0f}",
            f"{row['peak_GB']:.2f}",
            ", ".join(f"{stage} {s:.0f}" for stage, s in row["stages"].items() if stage != "end"),
        ]
        for name, row in result["table"].items()
    ]
    return f"""
## Simulator: time and memory

From the command to all files on disk, on {result["machine"]["cores"]} cores with a load of
{result["load_before"][0]:.1f} from other work before the run.

{grid(["preset", "seconds", "processor seconds", "peak GB", "seconds by stage, without writing"], rows)}

Command: `{result["command"]}`
"""


def streamed() -> str:
    """Throughput of the stream of patches."""
    result = load("simulator_stream_cpu_1")
    if result is None:
        return ""
    rows = [
        [row["target"], f"{row['patches_per_second']:.0f}", f"{row['patches_per_processor_second']:.0f}"]
        for row in result["streams"]
    ]
    parts = ", ".join(f"{what} {ms:.0f} ms" for what, ms in result["milliseconds"].items())
    settings = result["settings"]
    return f"""
## Simulator: throughput of the stream

Labeled patches of {settings["side"]}³ voxels with targets, {settings["threads"]} thread, {settings["workers"]} worker, load {settings["load_average"]:.1f} on two cores.
A box of 18 patches: {parts}.

{grid(["target", "patches per second", "per processor second"], rows)}

Command: `{result["command"]}`
"""


def subtomogram_speed() -> str:
    """Time to simulate subtomograms of many structures."""
    result = load("subtomogram_speed")
    if result is None:
        return ""
    each = result["write_seconds"] / result["count"]
    return f"""
## Simulator: subtomograms of many structures

{result["shapes"]} distinct structures of suitable size are read in {result["read_seconds"]:.0f} processor seconds, which includes
structures that are compared and left out. One of {result["count"]} subtomograms of {result["box"]}³ voxels takes {1000 * each:.0f} ms; 2,000 take {2000 * each / 60:.1f} processor minutes.

Command: `{result["command"]}`
"""


def learnable() -> str:
    """F1 by species of a network trained on simulated tomograms only."""
    result = load("simulator_learnable")
    if result is None:
        return ""
    mass, baseline = result["settings"]["mass"], result["floor_recall"]
    rows = [
        [
            name,
            mass.get(name, ""),
            *(
                " ± ".join(f"{v:.3f}" for v in table[name] if v is not None)
                for table in result["f1"].values()
            ),
            f"{baseline[name]:.3f}",
        ]
        for name in (*mass, "any")
    ]
    columns = [
        {"learned": "F1", "oracle, no noise": "F1, noise-free"}.get(name, name) for name in result["f1"]
    ]
    seeds = sum(run["noise"] for run in result["runs"])
    return f"""
## Simulator: training on simulated tomograms

A DeepFinder-type network in size `s`, {result["settings"]["time"]} of one thread on three tomograms like those of `toy`, F1 on two others;
{seeds} seed{"" if seeds == 1 else "s"}; the script runs three by default. Baseline: recall of a
difference-of-Gaussians picker that is given the true particle count.

{grid(["species", "mass", *columns, "baseline"], rows)}

Command: `{result["command"]}`
"""


def matched() -> str:
    """Similarity of real and simulated tomograms, before and after matching."""
    result = load("simulator_match")
    if result is None:
        return ""
    rows = [
        [
            str(run["seed"]),
            *(
                f"{run[k][m]:.3f}"
                for m in ("rmse", "rmse_tilt_axis", "auc", "recall")
                for k in ("unmatched", "matched")
            ),
            f"{run['recall_noise_free']:.3f}",
            f"{run['ratio']:.3f}",
        ]
        for run in result["runs"]
    ]
    names = ("spectrum RMSE", "spectrum RMSE by tilt", "classifier AUC", "recall")
    columns = ["scene", *(f"{n}, {k}" for n in names for k in ("before", "after"))]
    columns += ["recall, noise-free", "ratio of RMSE"]
    same = result["real_against_real"]
    return f"""
## Simulator: matching a real tomogram

Measured on y < 160 of the real tomogram, compared with y >= 160. RMSE of the logarithmic spectrum, also resolved
by tilt; AUC of a classifier of real and simulated patches; recall of the simulated ribosomes by a
difference-of-Gaussians picker with one candidate each. Real against real: RMSE {same["rmse"]:.3f}, AUC {same["auc"]:.3f}. Matching
reduces the RMSE to {result["ratio"]["mean"]:.3f} of its value; at most {result["ratio"]["limit"]} was required.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def denoised() -> str:
    """Time and memory of the denoising filters."""
    result = load("denoise_speed")
    if result is None:
        return ""
    settings = result["settings"]
    rows = [
        [
            method,
            f"{row['seconds']:.1f}",
            f"{row['processor_seconds']:.1f}",
            f"{row['copy_processor_seconds']:.3f}",
            f"{row['times_the_copy']:.0f}",
            f"{row['working_GB']:.2f}",
        ]
        for method, row in result["table"].items()
    ]
    columns = [
        "filter",
        "seconds",
        "processor seconds",
        "processor seconds of a copy",
        "ratio to the copy",
        "working memory, GB",
    ]
    return f"""
## Denoising: time and memory

A volume of {" x ".join(map(str, settings["shape"]))} voxels in memory, {settings["device"]}, {settings["threads"]} thread{"" if settings["threads"] == 1 else "s"}, load {settings["load_before"][0]:.1f} from other
work before the run. The lower bound is a copy of the {settings["floor_bytes"] / 1e6:.0f} MB that are read and written.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def layout() -> str:
    """Speed-up by channels-last weights on a CPU."""
    result = load("layout_speed")
    if result is None:
        return ""
    rows = [
        [
            row["network"],
            f"{row['batch']} x {row['side']}³",
            "training step" if row["learning"] else "inference",
            f"{row['plain']:.3f}",
            f"{row['channels_last']:.3f}",
            f"{row['plain'] / row['channels_last']:.2f}",
        ]
        for row in result["rows"]
    ]
    columns = ["network", "patches", "pass", "default, s", "channels last, s", "ratio"]
    return f"""
## Training on a CPU: channels-last weights

Processor seconds on {result["threads"]} thread, minimum of five, beside other runs on the same two cores.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def training_step() -> str:
    """Processor time of a training step by precision and memory format."""
    result = load("training_step")
    if result is None:
        return ""
    rows = []
    for row in result["rows"]:
        now = {label: f"`{precision}`" for precision, label in row["now"].items()}
        for label, values in row["variants"].items():
            cells = [f"{values['ms']:.0f}", f"{values['ratio']:.2f}", now.get(label, "")]
            rows.append([row["network"], f"{row['batch']} x {row['patch']}^3", label, *cells])
    columns = ["network", "batch", "variant", "ms", "ratio", "used by `--precision`"]
    return f"""
## A training step on a CPU by precision and memory format

Networks of size s with six species on {result["threads"]} thread: processor time of forward and backward pass, loss, clipping, AdamW and
averaged weights. All variants take a step in turn; medians over {result["rounds"]} rounds of the time and of its ratio to the first variant.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def compiled(rows: list[dict[str, Any]]) -> str:
    """How long OpenVINO needs to compile the networks."""
    seconds = [r["compiling"] for row in rows for r in row["runs"].get("cryovox, OpenVINO, float32", [])]
    if not seconds:
        return ""
    return f"The times of OpenVINO do not include that it compiles the network, {min(seconds):.1f} to {max(seconds):.1f} s.\n"


def tiler() -> str:
    """Streaming tiler beside MONAI's sliding window."""
    result = load("tiler_speed")
    if result is None:
        return ""
    rows = []
    for row in result["rows"]:
        monai = row["runs"]["MONAI"]
        for side, runs in row["runs"].items():
            pairs = list(zip(monai, runs, strict=True))
            rows.append([
                row["network"], " x ".join(map(str, row["shape"])), str(row["tile"]), f"{row['overlap']:g}", side,
                f"{median(run['seconds'] for run in runs):.1f}",
                f"{median(a['seconds'] / b['seconds'] for a, b in pairs):.2f}",
                f"{median(run['memory'] for run in runs):.0f}",
                f"{median(b['memory'] / a['memory'] for a, b in pairs):.2f}",
            ])  # fmt: skip
    columns = [
        "network",
        "voxels",
        "tile",
        "overlap",
        "program",
        "processor s",
        "speed",
        "memory, MB",
        "memory, ratio",
    ]
    alone = [
        [name, *(f"{value:.1f}" for value in row.values())] for name, row in result["one_tile_ms"].items()
    ]
    heads = ["network", *next(iter(result["one_tile_ms"].values()))]
    peaks = [[name, f"{value:.1f}"] for name, value in result["machine_peaks"].items()]
    batch = result["batch"]
    batches = f"batches of {batch}"
    if isinstance(batch, dict):
        batches = " and ".join(f"batches of {size} ({name})" for name, size in batch.items())
    return f"""
## Inference on a CPU: the tiler beside MONAI

Networks of size s with six species on {result["threads"]} thread, tiles in {batches}, the programs in turn,
{len(monai)} run{"" if len(monai) == 1 else "s"} each beside other work. Speed and memory are ratios to MONAI's sliding window with
the same network, tile and overlap; memory is the peak above the libraries, the network and the volume.
{compiled(result["rows"])}
{grid(columns, rows)}

Milliseconds of a tile:

{grid(heads, alone)}

In the same run:

{grid(["figure of the machine", "value"], peaks)}

Command: `{result["command"]}`
"""


def gap() -> str:
    """Loss for each difference between source and target."""
    result = load("adaptation_gap")
    if result is None:
        return ""
    rows = [
        [
            name,
            ", ".join(f"{run['iou']:.3f}" for run in runs),
            f"{sum(r['iou'] for r in runs) / len(runs):.3f}",
        ]
        for name, runs in result["worlds"].items()
    ]
    return f"""
## Domain shift: loss for each difference from the source

IoU of VoxResNet in size xs after {result["time"]} of one core on the source of the suite `uda`, in domains that differ from it
in one setting each. The first two rows are source-only and supervised training, tested on the target of that suite.

{grid(["domain", "by seed", "mean"], rows)}

Command: `{result["command"]}`
"""


def decoder_ceilings() -> str:
    """IoU of the decoders of MVGFormer on tokens that hold the true mask."""
    result = load("mvgformer_ceiling")
    if result is None:
        return ""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        cells.setdefault((row["decoder"], row["species"]), []).append(row)
    rows = [
        [
            decoder,
            f"{species}, {100 * seeds[0]['share']:.0f} %",
            cell([seed["iou"] for seed in seeds]),
            ", ".join(f"{seed['iou']:.3f}" for seed in seeds),
        ]
        for (decoder, species), seeds in cells.items()
    ]
    settings = result["settings"]
    return f"""
## MVGFormer: what its decoders draw from perfect tokens

IoU on other cubes after {settings["steps"]} steps on {settings["cubes"]} cubes, by the share of a cube that the mask fills. A token has the true
voxels of its 4 x 4 x 4 in place of features. Each seed draws cubes, tokens and weights.

{grid(["decoder", "species, share of the cube", "IoU", "by seed"], rows)}

Command: `{result["command"]}`
"""


def zsda_conditions() -> str:
    """Scores of both bounds and heavy augmentation under candidates of imaging conditions."""
    result = load("zsda_conditions")
    if result is None:
        return ""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in result["runs"]:
        cells.setdefault((row["conditions"], row["method"]), []).append(row)
    metrics = ("mean_iou", "class_accuracy", "iou")
    rows = [
        [name, method, *(cell([seed[metric] for seed in seeds]) for metric in metrics)]
        for (name, method), seeds in cells.items()
    ]
    return f"""
## Domain generalization: imaging conditions of the suite zsda-classes

VoxResNet in size xs after {result["time"]} of one core, on classes reserved for model selection.

{grid(["source and target", "method", *map(display_name, metrics)], rows)}

Command: `{result["command"]}`
"""


def graph_gradient() -> str:
    """Gradients of the graph losses of Vox-ZSDA, and nodes with foreground."""
    result = load("graph_gradient")
    if result is None:
        return ""
    cells: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        cells.setdefault((row["case"], row["step"]), []).append(row)
    measures = [name for name in result["rows"][0] if name not in ("case", "seed", "step")]
    rows = [
        [case, str(step), *(cell([seed[name] for seed in seeds]) for name in measures)]
        for (case, step), seeds in sorted(cells.items())
    ]
    columns = [
        "graph",
        "step",
        "reconstruction",
        "contrast",
        "consistency",
        "foreground nodes",
        "nodes with tokens",
    ]
    seeds = len({row["seed"] for row in result["rows"]})
    return f"""
## Vox-ZSDA: gradients of the graph losses

Norm of the gradient of each weighted loss on the encoder over that of the segmentation loss, and nodes of a cube that contain
foreground: {result["network"]}, source of the suite `zsda-classes-ablations`, mean of {result["batches"]} batches, mean ± standard deviation over
{seeds} seed{"" if seeds == 1 else "s"}. "fixed weights" and "balanced graph" are rows of that suite.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def filtered() -> str:
    """Effect of a filter on the input of models without a target."""
    results = [r for suite in ("zsda", "zsda-tomograms") if (r := load(f"denoised_input-{suite}"))]
    if not results:
        return ""
    tables = []
    for metric in ("iou", "dice", "localisation_f1"):
        cells: dict[tuple[str, str], dict[str, str]] = {}
        for row in (row for result in results for row in result["rows"]):
            seeds = cell([seed[metric] for seed in row["seeds"]])
            cells.setdefault((display_name(row["world"]), row["model"]), {})[row["filter"]] = seeds
        kinds = list(next(iter(cells.values())))
        rows = [
            [domain, model, *(by_filter[kind] for kind in kinds)]
            for (domain, model), by_filter in cells.items()
        ]
        tables.append(f"{display_name(metric)}:\n\n{grid(['domain', 'model', *kinds], rows)}")
    together = "\n\n".join(tables)
    commands = ", ".join(f"`{result['command']}`" for result in results)
    return f"""
## Domain generalization: denoising the input

Scores in all domains of the suite `zsda` and on the tomograms of `zsda-tomograms`, by filter before segmentation:
models of {results[0]["time"]} of one core, mean ± standard deviation over three seeds. "target": unseen structures under another microscope.

{together}

Commands: {commands}
"""


def widths() -> str:
    """Noise that the filters remove, and scores of a source-only model on filtered input, by width."""
    result = load("filter_widths")
    if result is None:
        return ""
    removed: dict[tuple[str, float], dict[str, str]] = {}
    for row in result["noise"]:
        share = 100 * sum(row["removed"]) / len(row["removed"])
        removed.setdefault((row["filter"], row["width"]), {})[row["units"]] = f"{share:.1f} %"
    scores: dict[str, dict[str, str]] = {}
    for row in result["rows"]:
        scores.setdefault(row["filter"], {})[row["world"]] = cell([seed["iou"] for seed in row["seeds"]])
    units = ("z-scores", "min-max")
    noise_rows = [[name, f"{width:g}", *(row[u] for u in units)] for (name, width), row in removed.items()]
    return f"""
## Denoising filters: width and units

White noise removed, as a share of its standard deviation, by units of the input: mean 0 and standard deviation 1 (z-scores), or 0 to 1
(min-max). The width of `ibf` and `bf` is that of the range kernel; that of `ngm` is the share of frequencies kept along each axis.

{grid(["filter", "width", *units], noise_rows)}
{scores_by_width(result, scores) if scores else ""}
Command: `{result["command"]}`
"""


def scores_by_width(result: dict[str, Any], scores: dict[str, dict[str, str]]) -> str:
    """Scores of a source-only model on input filtered with each width."""
    domains = list(scores["none"])
    rows = [[name, *(row[domain] for domain in domains)] for name, row in scores.items()]
    return f"""
IoU of a source-only model ({result["time"]} of one core) on filtered input, in domains reserved for model selection, mean ±
standard deviation over {len(result["rows"][0]["seeds"])} seeds; {result["count"]} subtomograms of each of three unseen structures in "target",
under another microscope.

{grid(["filter", *domains], rows)}
"""


def decoys() -> str:
    """True share of false picks and recall at estimated rates, by decoys of three kinds."""
    result = load("decoys")
    if result is None:
        return ""
    worlds = {name: row for name, row in result["worlds"].items() if name != "noise"}
    rows = [
        [
            name,
            *key.split(" at "),
            str(row["picks"]),
            f"{row['recall']:.3f}",
            "none" if row["false"] is None else f"{row['false']:.3f}",
        ]
        for name, world in worlds.items()
        for key, row in world.items()
    ]
    noise = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in result["worlds"]["noise"].items())
    return f"""
## Decoys for false discovery rates

Picks at estimated false discovery rates in {result["volumes"]} simulated volumes of each world, pooled; candidates are peaks of a difference of
Gaussians. Recall is relative to the particles that have a candidate. Decoys have random phases and the power of the whole volume (whole), or
the power beside the strongest candidates (background), or are in half the difference of two half volumes (halves).

{grid(["particles", "decoys", "estimated rate", "picks", "recall", "true share of false picks"], rows)}

In pure noise, decoys over peaks above the 80 % quantile: {noise}.

Command: `{result["command"]}`
"""


def joint() -> str:
    """One pass of both domains against separate passes, and the balance of the losses of Vox-UDA."""
    result = load("joint_pass")
    if result is None:
        return ""
    cases = list(dict.fromkeys(run["case"] for run in result["runs"]))
    runs = {case: [run for run in result["runs"] if run["case"] == case] for case in cases}
    rows = [[case, *(cell([run[m] for run in runs[case]]) for m in ("iou", "dice"))] for case in cases]
    parts = ("adversarial", "consistency", "pseudo")
    balance = []
    for at, row in enumerate(result["gradients"][0]):
        shares = [
            cell([seed[at][part] / seed[at]["segmentation"] for seed in result["gradients"]])
            if part in row
            else ""
            for part in parts
        ]
        balance.append([f"{row['progress']:.2f}", *shares])
    scores = f"""
Scores of the adapted model on the target after {result["time"]} of one core in all, half of it for the source model: mean ±
standard deviation over {len(result["gradients"])} seeds, which draw the data and the weights.

{grid(["method", "IoU", "Dice"], rows)}
"""
    return f"""
## Domain adaptation: one pass of both domains
{scores if rows else ""}
Norm of the gradient of each loss of Vox-UDA on the coarsest features, divided by that of the segmentation loss, mean ± standard
deviation over {len(result["gradients"])} seeds, in a training of {result["steps"]} steps from random weights:

{grid(["progress", *parts], balance)}

Command: `{result["command"]}`
"""


def picked(name: str, title: str) -> str:
    """Cost of picking from heatmaps and masks, accuracy of the positions, and separation of particles."""
    result = load(name)
    if result is None:
        return ""
    settings, networks, ways = result["settings"], result["networks"], result["ways"]
    whole = {
        way: networks[row["network"]]["processor_seconds"] + row["processor_seconds"]
        for way, row in ways.items()
    }
    first = next(iter(ways))
    rows = [
        [
            way,
            row["network"],
            f"{networks[row['network']]['processor_seconds']:.1f}",
            f"{row['processor_seconds']:.3f}",
            f"{row['processor_seconds'] / ways[first]['processor_seconds']:.0f}",
            f"{whole[way] / whole[first]:.1f}",
            f"{row['f1']:.3f}",
            f"{row['mean_distance_A']:.2f}",
        ]
        for way, row in ways.items()
    ]
    columns = [
        "method", "network", "network, s", "picking, s", "picking, relative",
        "both, relative", "F1", "distance of hits, Å",
    ]  # fmt: skip
    touching = [
        [f"{row['radius']:g}", str(row["spheres"]), *(f"{row[way]:.3f}" for way in ways)]
        for row in result["touching"]
    ]
    errors = ", ".join(f"{row['rms']:.1e} (width {row['sigma']:g})" for row in result["centres"])
    weights = ", ".join(f"{name} {n['weights'] / 1e6:.2f} M" for name, n in networks.items())
    data = result["data"]
    return f"""
## {title}

A phantom of {" x ".join(map(str, settings["shape"]))} voxels with {data["particles"]} particles; networks of size `s` with untrained weights ({weights}), {settings["device"]},
{settings["threads"]} thread{"" if settings["threads"] == 1 else "s"}. Processor seconds, minimum of {settings["repeats"]}, load {settings["load_before"][0]:.1f} from other work before the run; relative to
the first row. Picking uses ideal maps, rendered from the truth, so F1 and distance are those of the picker; a hit is at
most {settings["reach_radii"]} radii away.

{grid(columns, rows)}

Spheres in chains of two to four, neighbors 1.0 to 1.2 diameters apart: F1 by radius in voxels.

{grid(["radius", "spheres", *ways], touching)}

RMS distance of picks from centers between voxels on noise-free heatmaps, in voxels of the heatmap: {errors}.

Command: `{result["command"]}`
"""


def times(name: str, title: str) -> str:
    """Processor seconds until a score is reached, with former and current settings."""
    result = load(name)
    if result is None:
        return ""
    rows = []
    for world, facts in result["worlds"].items():
        for settings in result["settings"]:
            runs = [r for r in result["runs"] if (r["world"], r["settings"]) == (world, settings)]
            until = ", ".join("not reached" if r["until"] is None else f"{r['until']:.0f}" for r in runs)
            last = ", ".join(f"{r['scores'][-1]:.3f}" for r in runs)
            steps = ", ".join(str(r["steps"][-1]) for r in runs)
            rows.append([world, settings, f"{facts['target']:g}", until, last, steps])
    columns = [
        "data",
        "settings",
        "score to reach",
        "processor seconds until then",
        "final score",
        "steps",
    ]
    others = "; ".join(f"{name}: {fact(changed)}" for name, changed in result["settings"].items() if changed)
    return f"""
## {title}

{result["time"]} of one thread per training; values by seed. The score is the mean F1 at the best thresholds (picking) or the mean Dice
(masks) on held-out tomograms, for `sim_deepfinder` on held-out parts of its three training tomograms. Current defaults ("now"):
{fact(result["defaults"])}. Differences of the other settings: {others}.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def averaged() -> str:
    """F1 of moving averages of the weights in short trainings."""
    result = load("ema_share")
    if result is None:
        return ""
    lengths = list(dict.fromkeys(r["steps"] for r in result["runs"]))
    rows = [
        [
            average,
            *(
                ", ".join(f"{r['f1'][average]:.3f}" for r in result["runs"] if r["steps"] == steps)
                for steps in lengths
            ),
        ]
        for average in result["runs"][0]["f1"]
    ]
    return f"""
## Averages of the weights in short trainings

F1 of a heatmap network in size `xs` on two tomograms of a smaller CZII phantom; values by seed. All averages of a column follow the
same trainings.

{grid(["average", *(f"{steps} steps" for steps in lengths)], rows)}

Command: `{result["command"]}`
"""


def calibrated() -> str:
    """Calibration errors, and predicted beside true shares of false picks."""
    result = load("calibration")
    if result is None:
        return ""
    runs, estimates, rates = (
        result["runs"],
        ("chosen", "probabilities", "decoys", "decoys of all power"),
        (0.05, 0.1, 0.2),
    )
    worlds = list(runs[0]["worlds"])
    errors = [[world, *(f"{run['worlds'][world]['ece']:.3f}" for run in runs)] for world in worlds]
    shares = []
    for world in worlds:
        for estimate in estimates:
            cells = []
            for rate in rates:
                rows = [run["worlds"][world]["false picks"][f"{estimate} at {rate:g}"] for run in runs]
                false = ", ".join(
                    "none kept" if row["false"] is None else f"{row['false']:.2f}" for row in rows
                )
                cells += [false, f"{mean(row['recall'] for row in rows):.2f}"]
            shares.append([world, estimate, *cells])
    noise = [
        [
            estimate,
            *(
                ", ".join(
                    f"{run['noise'][f'{estimate} at {r:g}']['with picks']} of {run['noise'][f'{estimate} at {r:g}']['runs']}"
                    for run in runs
                )
                for r in rates
            ),
        ]
        for estimate in estimates
    ]
    heads = [text for rate in rates for text in (f"false at {100 * rate:.0f} %, by seed", "recall")]
    settings = result["settings"]
    decisions = []
    for world in worlds:
        for label in ("before", "after"):
            own = [run["worlds"][world]["decisions"][label] for run in runs]
            cells = [", ".join(f"{row['ece']:.2f}" for row in own)]
            for rate in rates:
                rows = [row["false picks"][f"{rate:g}"] for row in own]
                false = ("none kept" if r["false"] is None else f"{r['false']:.2f}" for r in rows)
                cells += [", ".join(false), f"{mean(r['recall'] for r in rows):.2f}"]
            decisions.append([world, label, *cells])
    return f"""
## Calibration and false discovery rates in other worlds

A heatmap network for two species is trained ({settings["time"]} of one thread) and calibrated on {settings["training"]} simulated tomograms at SNR {settings["snr"]:g}, and picks in
{settings["tomograms"]} tomograms of each world, {len(runs)} seeds. Calibration error (mean difference between probability and frequency), by seed:

{grid(["world", *(f"seed {run['seed']}" for run in runs)], errors)}

True share of false picks, by seed, and mean recall, where `--fdr` asks for 5, 10 and 20 %: as it chooses (`chosen`), by probabilities alone, and by decoys with the
power beside strong picks or that of the whole tomogram:

{grid(["world", "estimate", *heads], shares)}

After a person has judged candidates of the first tomogram (`find --curated`; {settings["decisions"]} of each species or all there are, spread over the ranks of those with a probability
of at least 2 %, all judged rightly), in the other tomograms, by seed:

{grid(["world", "decisions", "calibration error", *heads], decisions)}

Volumes of phase-randomized noise in which anything is kept, by seed:

{grid(["estimate", *(f"at {100 * rate:.0f} %" for rate in rates)], noise)}

Command: `{result["command"]}`
"""


def distilled() -> str:
    """F1 of light students beside their teacher, and the time of their tiler."""
    result = load("distill")
    if result is None:
        return ""
    runs, settings, tiler = result["runs"], result["settings"], result["tiler"]
    metrics = ("f1", "average_precision", "steps", "train_seconds")
    rows = []
    for model in dict.fromkeys(run["model"] for run in runs):
        own = [run for run in runs if run["model"] == model]
        rows.append([model, *(", ".join(f"{run[metric]:g}" for run in own) for metric in metrics)])
    z, y, x = settings["shape"]
    columns = ["model", "F1", "average precision", "steps", "processor s, start and teacher's picks included"]
    times = [
        [size, ", ".join(f"{s:.2f}" for s in seconds), f"{tiler['ratio'][size]:g}"]
        for size, seconds in tiler["seconds"].items()
    ]
    return f"""
## Distillation: light students on a CPU

Tomograms of {z} x {y} x {x} voxels of {settings["voxel_size"]:g} Å of a smaller CZII phantom ({settings["particles"]} particles of each of six
species), drawn by seed with the weights; two are scored. The teacher (heatmap-unet, size s, {settings["teacher_time"]}) and the students of
annotations learn from {settings["annotated"]} annotated tomograms, distilled students from {settings["not_annotated"]} others without annotations;
{settings["time"]} of processor time for each student. F1 at the own thresholds, within half a radius; values by seed.

{grid(columns, rows)}

Processor seconds of the tiler on {" x ".join(map(str, tiler["volume"]))} voxels, tiles of {tiler["tile"]}, overlap {tiler["overlap"]:g}, in turns:

{grid(["size of heatmap-unet", "processor s", "speed relative to s"], times)}

Command: `{result["command"]}`
"""


def embedded() -> str:
    """Candidates of the embedded detector on the choice worlds."""
    results = {path.stem: load(path.stem) for path in sorted(RESULTS.glob("embedded*.json"))}
    listed = {name: result for name, result in results.items() if result is not None}
    if not listed:
        return ""
    measures = ("f1", "average_precision", *(f"recall@{budget}x" for budget in (1, 2, 3, 4)))
    columns = ["candidate", "F1", "average precision", *(f"recall at {b}x" for b in (1, 2, 3, 4))]
    text = """
## Candidates of the embedded detector

Particles of any species, on simulations kept for the choice between candidates. F1 is that at the best threshold of each world.
The difference-of-Gaussians picker has the settings that are best on the same world.
"""
    for world in next(iter(listed.values()))["worlds"]:
        rows = [
            [name, *(f"{result['worlds'][world]['model'][m]:.3f}" for m in measures)]
            for name, result in listed.items()
        ]
        blobs = next(iter(listed.values()))["worlds"][world]
        rows.append(["difference-of-Gaussians picker", *(f"{blobs['blobs'][m]:.3f}" for m in measures)])
        text += f"\n{world}, {blobs['particles']} particles:\n\n{grid(columns, rows)}\n"
    runs = [
        [
            name,
            f"{result['training']['steps']}",
            f"{result['training']['seconds'] / 60:.0f}",
            f"{result['settings']['voxel_size']:g}",
            f"`{result['command']}`",
        ]
        for name, result in listed.items()
    ]
    return text + f"\n{grid(['candidate', 'steps', 'minutes', 'voxel size, Å', 'command'], runs)}\n"


def half_embedded() -> str:
    """Recall on the part of the real tomogram that decided between stages of the training."""
    results = [
        r for name in ("half-embedded", "half-whitened", "half-contrast") if (r := load(name)) is not None
    ]
    if not results:
        return ""
    rows = [
        [name, *(f"{row[f'recall@{budget}x']:.3f}" for budget in (1, 2, 3, 4))]
        for name, row in {n: r for result in results for n, r in result["recall"].items()}.items()
    ]
    commands = ", ".join(f"`{result['command']}`" for result in results)
    return f"""
The part of this tomogram that decided between stages of the training (y < 160, {results[0]["picks"]} picks):

{grid(["model", *(f"{n}x" for n in (1, 2, 3, 4))], rows)}

Commands: {commands}
"""


def few_picks() -> str:
    """Trainings on few picks from the embedded model and from random weights."""
    results = [r for name in ("few_picks", "few_picks_10m") if (r := load(name)) is not None]
    if not results:
        return ""
    rows = []
    for result in results:
        seeds = len({run["seed"] for run in result["runs"]})
        for name, row in result["table"].items():
            picks, time, metric = name.split(", ")
            gain = row["difference"]
            spread = f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
            means = [f"{row[start]:.3f}" for start in ("random", "embedded")]
            rows.append([picks, time, str(seeds), display_name(metric), *means, spread])
    columns = ["picks", "time", "seeds", "metric", "random weights", "embedded model", "difference [95 % CI]"]
    commands = ", ".join(f"`{result['command']}`" for result in results)
    return f"""
## Few picks: training from the embedded model and from random weights

Ribosomes in four tomograms at SNR 0.15, four others for the test; the seed draws tomograms, picks and weights, and the interval is over
seeds and test tomograms.

{grid(columns, rows)}

Commands: {commands}
"""


def tiles_embedded() -> str:
    """Scores and time of the embedded model by tile and overlap."""
    result = load("tiles-embedded")
    if result is None:
        return ""
    worlds = [name for name, value in result["rows"][0].items() if isinstance(value, dict)]
    rows = [
        [
            f"{row['tile']}, {row['overlap']:g}",
            *(f"{row[name]['f1']:.3f}, {row[name]['average_precision']:.3f}" for name in worlds),
            f"{row['mean_f1']:.3f}, {row['mean_average_precision']:.3f}",
            f"{row['seconds']:.1f}",
        ]
        for row in result["rows"]
    ]
    return f"""
## Embedded model: tile and overlap

F1 at the thresholds of the model and average precision, particles of any size. Processor seconds of six tomograms of 64 x 128 x 128 voxels of 10 Å include
resampling, writing and picking; a tile of 96 voxels is larger than these tomograms, so it is slower here than in larger ones.

{grid(["tile, overlap", *worlds, "mean", "processor s"], rows)}

Command: `{result["command"]}`
"""


def surroundings_embedded() -> str:
    """Dice of the head of the embedded model that marks surroundings."""
    result = load("surroundings-embedded")
    if result is None:
        return ""
    columns = [
        "scene",
        "voxel size, Å",
        "kind",
        "share of the voxels",
        "Dice",
        "best Dice",
        "filter",
        "its best Dice",
    ]
    rows = [
        [
            row["world"],
            f"{row['voxel_size']:g}",
            row["kind"],
            f"{row['share']:.3f}",
            f"{row['dice']:.2f}",
            f"{row['best_dice']:.2f}",
            row["filter"],
            f"{row['filter_dice']:.2f}",
        ]
        for row in result["rows"]
    ]
    training = result["training"]
    return f"""
## Embedded model: membranes, gold and empty regions

Dice over two tomograms of each scene: at the thresholds of the model (best mean Dice over these tomograms at 10 Å and four more), and at the
threshold that is best for the scene, which the filters have too, with the best of their widths. `crowded` has vesicles, sheets, gold and
particles; `lamella` is a thin tilted sample of them with ice above and below. Voxels of 20 Å are those of 10 Å binned. One seed,
{training["steps"]} steps in {training["seconds"] / 60:.0f} processor minutes.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def size_embedded() -> str:
    """Rankings of the particles of one size."""
    result = load("size-embedded")
    if result is None:
        return ""
    methods = list(next(iter(result["table"].values())))
    rows = [
        [name, *(f"{row[m]['average_precision']:.2f}, {row[m]['recall@3x']:.2f}" for m in methods)]
        for name, row in result["table"].items()
    ]
    simulated = [row for name, row in result["table"].items() if not name.startswith("real")]
    means = [
        f"{mean(row[m]['average_precision'] for row in simulated):.2f},"
        f" {mean(row[m]['recall@3x'] for row in simulated):.2f}"
        for m in methods
    ]
    rows.append([f"mean of the {len(simulated)} simulated species", *means])
    return f"""
## Embedded model: particles of one size among others

Average precision and recall at 3 candidates per particle, for the radius given. `find --species NAME=RADIUS` uses the odds of the
size ([decision 37](../decisions/0037-odds-of-a-size.md)), with `--by-contrast` times those of a dense particle ([decision
43](../decisions/0043-by-contrast.md)). The real tomogram is the part y < 160; one network.

{grid(["particles", *methods], rows)}

Command: `{result["command"]}`
"""


def scored_embedded() -> str:
    """The embedded model on data that nothing was chosen on."""
    result = load("scored-embedded")
    if result is None:
        return ""
    recalls = [
        [f"{part}, {rows['picks']} picks", name, *(f"{v:.3f}" for v in row.values())]
        for part, rows in result["real"].items()
        for name, row in rows.items()
        if name != "picks"
    ]
    areas = [[name, span(row)] for name, row in result["mpneumoniae"].items()]
    objects = {name: row for name, row in result["sim_deepfinder"].items() if name != "objects"}
    kinds = ("precision", "recall", "f1", "best_f1", "average_precision")
    found = [[name, *(f"{row[k]:.3f}" if k in row else "" for k in kinds)] for name, row in objects.items()]
    return f"""
## Embedded model on real tomograms and third-party simulations

No training on these data, and no choice but on y < 160 of the real tomogram. The last stage of the training: {result["training"]["steps"]} steps in
{result["training"]["seconds"] / 60:.0f} minutes.

Real tomogram, recall of ribosome picks (about a third of the ribosomes) at 1 to 4 candidates per pick:

{grid(["part", "picker", *(f"{n}x" for n in (1, 2, 3, 4))], recalls)}
{half_embedded()}
*Mycoplasma pneumoniae*, 40 ribosomes: probability that the particle scores higher than a crop shifted by 125 Å:

{grid(["score", "AUC within boxes [95 % CI]"], areas)}

Third-party simulations, {result["sim_deepfinder"]["objects"]} objects of any class within 60 Å:

{grid(["picker", "precision", "recall", "F1", "best F1", "average precision"], found)}

Command: `{result["command"]}`
"""


def species_similarity() -> str:
    """Similarity of the built-in species."""
    result = load("library_correlation")
    if result is None:
        return ""
    first = sorted(result["pairs"], key=lambda pair: -pair[2])[:8]
    rows = [[one, other, f"{value:.3f}"] for one, other, value in first]
    return f"""
## Simulator: similarity of the built-in species

{len(result["species"])} species, {len(result["pairs"])} pairs: the largest cross-correlation over all rotations and shifts of up to one voxel
is {result["largest"]:.3f} at {result["voxel_size"]:.0f} Å voxels ({result["limit"]} was the limit). The most similar pairs:

{grid(["species", "species", "correlation"], rows)}

Command: `{result["command"]}`
"""


def model_selection() -> str:
    """Accuracy of the selection between source and adapted model, over all suites."""
    files = sorted(RESULTS.glob("suite-uda*.json"))
    results = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    total = selection_summary(results)
    if not total["runs"]:
        return ""
    by_suite = [(result["title"], selection_summary([result])) for result in results]
    rows = [
        [TITLES.get(title, title), *(f"{v:g}" for v in row.values())]
        for title, row in [*by_suite, ("all", total)]
        if row["runs"]
    ]
    return f"""
## Domain adaptation: model selection without labels

Every adaptation selects the source model or the adapted model without labels. A selection is correct if the other model
is not better by more than 0.005 in the score of the suite on the held-out part.

{grid(["suite", *total], rows)}
"""


Page = Callable[[], str]
FACTS = {
    "stand-in": "origin", "learned": "training items", "tested": "test items", "snr": "SNR", "seen": "seen species",
    "unseen": "unseen species", "cut": "split at y (voxels)", "likenesses": "simulated tomograms",
    "learned_picks": "training picks", "tested_picks": "test picks", "voxel_size": "voxel size (Å)",
    "trained": "training items of a seed", "shapes": "distinct structures",
}  # fmt: skip
"""Keys of the data in result files -> their names on the pages."""
TITLES = {
    "Any particle of a phantom after training on another simulation": (
        "Picking particles of any species after training on other simulations"
    ),
    "Ribosomes after training on their masks alone": "Picking ribosomes after training on ribosome masks",
    "Picking from few labels and unlabeled tomograms": "Picking from few labels and unlabeled tomograms",
    "Adaptation from a simulated likeness to a real tomogram: recall of ribosomes": (
        "Adaptation from matched simulations to a real tomogram: recall of ribosomes"
    ),
    "Whether the rule that chooses knows when adapting does not help": (
        "Model selection on targets where adaptation does not help"
    ),
    "From simulations to a real tomogram, without any target: recall of ribosomes": (
        "Domain generalization from simulations to a real tomogram: recall of ribosomes"
    ),
    "From our simulated tomograms to those of another simulator, without any target": (
        "Domain generalization from our simulated tomograms to those of another simulator"
    ),
    "From one simulated source to unseen structures, noises and microscopes, without any target": (
        "Domain generalization to unseen structures, noise levels and microscopes"
    ),
}
"""Titles of older result files -> those of the suites today."""
PAGES: dict[str, tuple[Page, ...]] = {
    "real_ribosomes": (
        partial(real, "real_ribosomes", "Ribosomes in a real tomogram"),
        partial(real, "real_ribosomes_xs", "A smaller network with more regularization"),
        limit,
    ),
    "real_likeness": (
        partial(likeness, "real_likeness", "A simulated likeness of the real tomogram"),
        partial(likeness, "real_likeness-90s", "Longer trainings and all treatments"),
    ),
    "mpneumoniae_70s": (organism,),
    "sim_deepfinder": (
        partial(simulated, "sim_deepfinder", "Third-party simulations: three networks at equal time"),
        folds,
        partial(agnostic, "sim_deepfinder_agnostic"),
        partial(agnostic, "sim_deepfinder_agnostic-15m"),
    ),
    "cluster": (pages_cluster.workers, pages_cluster.memory),
    "mutation": (pages_mutation.page,),
    "simulator_speed": (speed,),
    "simulator_stream_cpu_1": (streamed,),
    "subtomogram_speed": (subtomogram_speed,),
    "simulator_learnable": (learnable,),
    "simulator_match": (matched,),
    "denoise_speed": (denoised,),
    "denoised_input": (filtered,),
    "filter_widths": (widths,),
    "calibration": (calibrated,),
    "decoys": (decoys,),
    "joint_pass": (joint,),
    "picking_speed": (
        partial(picked, "picking_speed", "Picking: heatmaps, regions and mean shift"),
        partial(picked, "picking_speed_crowded", "The same in a crowded tomogram"),
    ),
    "layout_speed": (layout,),
    "tiler_speed": (tiler,),
    "backends": (lambda: pages_speed.backends(load("backends")),),
    "training_step": (training_step,),
    "heatmap_variants": (lambda: pages_speed.heatmap_variants(load("heatmap_variants")),),
    "patches": (lambda: pages_speed.patches(load("patches")),),
    "bfloat16": (
        lambda: pages_speed.half_precision(load("bfloat16")),
        lambda: pages_speed.half_precision_training(load("bfloat16_training")),
    ),
    "faces": (lambda: pages_speed.faces(load("faces")),),
    "speed-limits": (
        lambda: pages_speed.limits(load("speed-limits")),
        lambda: pages_speed.versions(load("speed-limits-versions")),
        lambda: pages_speed.growth(load("speed-limits-growth")),
    ),
    "adaptation_gap": (gap,),
    "graph_gradient": (graph_gradient,),
    "mvgformer": (decoder_ceilings,),
    "zsda_conditions": (zsda_conditions,),
    "library_correlation": (species_similarity,),
    "model_selection": (model_selection,),
    "time_to_f1": (
        partial(times, "time_to_f1", "Time to F1: former and current defaults"),
        partial(times, "time_to_f1-15m", "The same trainings over 15 minutes"),
        partial(times, "time_to_f1-choice", "One setting changed, on data reserved for model selection"),
    ),
    "ema_share": (averaged,),
    "distill": (distilled,),
    "embedded": (
        embedded,
        tiles_embedded,
        surroundings_embedded,
        size_embedded,
        few_picks,
        scored_embedded,
    ),
    "match": TEMPLATE_MATCHING,
    "interchange": (
        lambda: pages_interchange.particle_lists(load("particle_lists")),
        lambda: pages_interchange.hand_of_averages(load("hand_of_averages")),
        lambda: pages_interchange.sample_boundary(load("lamella_real")),
    ),
}
"""Page -> its parts; parts without a result file are skipped."""


def fact(value: Any) -> str:
    """Plain text of a value, without the brackets of lists and mappings."""
    if isinstance(value, dict):
        return ", ".join(f"{FACTS.get(key, key)} {fact(item)}" for key, item in value.items())
    return ", ".join(map(fact, value)) if isinstance(value, list) else str(value)


def suite(path: Path) -> str:
    """Tables of a suite of `cryovox benchmark`."""
    result = json.loads(path.read_text(encoding="utf-8"))
    facts = "; ".join(f"{FACTS.get(key, key)}: {fact(value)}" for key, value in result["data"].items())
    cap = f"\n{caps()}\n" if result["suite"].endswith("-real") else ""
    special = path.stem.removeprefix(f"suite-{result['suite']}").replace("-", " ").strip()
    return f"""
## {TITLES.get(result["title"], result["title"])}{f" ({special})" if special else ""}

Protocol: {result["source"].replace("our own protocol", "our own")}. Tier {result["tier"]}, {result["device"]}, {result["at_once"]} trainings at a time on {result["cores"]} cores.

Data: {facts}.
{cap}
{markdown(result)}

Command: `{result["command"]}`
"""


def networks() -> str:
    """Computational cost of all networks."""
    rows = [
        [
            row["network"],
            row["size"],
            row["kind"],
            str(row["patch"]),
            f"{row['parameters'] / 1e6:.3f}",
            f"{row['flops'] / 1e9:.2f}",
            f"{row['flops_per_voxel'] / 1e3:.1f}",
        ]
        for row in json.loads((ROOT / "src/cryovox/models/costs.json").read_text(encoding="utf-8"))
    ]
    columns = ["network", "size", "output", "patch", "weights, M", "GFLOP per patch", "kFLOP per voxel"]
    return f"""# Networks and their cost

Parameters and operations of every network and size, for one input channel and 16 output channels.

- **weights**: all parameters, including those used in training only.
- **GFLOP per patch**: operations to predict one patch; a multiplication with its addition counts as two. Convolutions, matrix
  products and attention are counted. Operations do not predict run time: small channel counts and depth-wise kernels reach a
  fraction of a processor's speed.
- **size**: `xs` is for tens of picks, `light` is fast on a CPU, `s` trains on two CPU cores, `m` takes hours there, `paper` is the
  published size.

[Methods](methods/README.md) describes the networks. `cryovox models` prints this table. It is rendered by
`python benchmarks/render.py` from `src/cryovox/models/costs.json`, which `python -m cryovox.models.cost` prints and a test
compares with the networks.

{grid(columns, rows)}
"""
