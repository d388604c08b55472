"""The text of every result page: a function for each script of this folder, one for all suites."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cryovox.benchmark.adaptation import selection_summary
from cryovox.benchmark.tables import cell, markdown

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def load(name: str) -> dict[str, Any] | None:
    """A result file, or None where it is not there."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def grid(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def span(interval: dict[str, float], sign: str = "") -> str:
    """A value with its interval."""
    return f"{interval['value']:{sign}.3f} [{interval['low']:{sign}.3f}, {interval['high']:{sign}.3f}]"


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
            f"{row['aim']:.2f}",
        ]
        for budget, row in result["table"].items()
    ]
    columns = ["budget", "recall [95 %]", "by seed", "difference of Gaussians", "paired difference", "aim"]
    seconds = [run["train_seconds"] for run in result["runs"]]
    settings = result["settings"]
    settings_text = "; ".join(f"y {b['block'][0]}-{b['block'][1]}: {b['settings']}" for b in result["blobs"])
    mean = result.get("averaged", {})
    averaged = "; ".join(
        f"{b}x {span(r['recall'])}, difference {span(r['difference'], '+')}" for b, r in mean.items()
    )
    more = f"\nScores averaged over the seeds: {averaged}.\n" if averaged else ""
    return f"""
## {title}

Recall of {sum(b["picks"] for b in result["blobs"])} ribosomes (EMPIAR-11658, 31.36 Å, half a tomogram) within
{settings["match_A"]:.0f} Å among so many candidates per pick. Each of three y-blocks is searched by a network trained
on the other two; {len({r["seed"] for r in result["runs"]})} seeds; the unit of the bootstrap is the pick, its value
the mean over the seeds.

{grid(columns, rows)}
{more}
One training took {min(seconds):.0f} to {max(seconds):.0f} s on one thread, beside other runs on the same two cores. Settings of the blob picker,
chosen on the training blocks: {settings_text}.

Command: `{result["command"]}`
"""


def limit() -> str:
    """What classifiers of candidates make of the same picks."""
    result = load("real_ribosomes_limit")
    if result is None:
        return ""
    budgets = list(next(iter(result["table"].values())))
    rows = [[name, *(f"{values[b]:.3f}" for b in budgets)] for name, values in result["table"].items()]
    return f"""
### The same picks at the level of candidates

{result["candidates"]} candidates of the blob picker on y < 160, {result["picks"]} picks, four folds: recall when small
classifiers, which learn picked against unpicked candidates and nothing else, rank them.

{grid(["ranked by", *budgets], rows)}

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
    steps_text = ", ".join(f"{net} {min(s)} to {max(s)}" for net, s in steps.items())
    return f"""
## {title}

Four simulated tomograms of 100^3 voxels with nine classes, three objects of a class in each. Trained on three, tested
on the fourth, in rotation and pooled; {result["settings"]["time"]} of one thread for each training. `any` takes no
notice of the class; `mean` is over classes. Steps in that time: {steps_text}.

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
## The simulator: time and memory

From the command to all files on disk, on {result["machine"]["cores"]} cores with a load of
{result["load_before"][0]:.1f} from other work before the run.

{grid(["preset", "seconds", "processor seconds", "peak GB", "seconds by stage, without writing"], rows)}

Command: `{result["command"]}`
"""


def streamed() -> str:
    """Patches a second of the endless stream."""
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
## The simulator: the stream

Labelled patches of {settings["side"]}^3 voxels with targets, {settings["threads"]} thread, {settings["workers"]} worker, load {settings["load_average"]:.1f} on two cores.
A box of 18 patches: {parts}.

{grid(["target", "patches per second", "per processor second"], rows)}

Command: `{result["command"]}`
"""


def learnable() -> str:
    """F1 by species of a network that learned from simulated tomograms alone."""
    result = load("simulator_learnable")
    if result is None:
        return ""
    mass, floor = result["settings"]["mass"], result["floor_recall"]
    rows = [
        [
            name,
            mass.get(name, ""),
            *(
                " ± ".join(f"{v:.3f}" for v in table[name] if v is not None)
                for table in result["f1"].values()
            ),
            f"{floor[name]:.3f}",
        ]
        for name in (*mass, "any")
    ]
    seeds = sum(run["noise"] for run in result["runs"])
    return f"""
## The simulator: what can be learned from it

A DeepFinder-type network in size `s`, {result["settings"]["time"]} of one thread on three tomograms like those of `toy`, F1 on two others;
{seeds} seed{"" if seeds == 1 else "s"} of the three that the script runs by default. Floor: recall of a blob picker that is told the number of particles.

{grid(["species", "mass", *result["f1"], "floor"], rows)}

Command: `{result["command"]}`
"""


def matched() -> str:
    """Real against simulated, before and after matching."""
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
    names = ("spectrum", "by tilt", "classifier", "blobs")
    columns = ["scene", *(f"{n} {k}" for n in names for k in ("before", "after")), "blobs, no noise", "ratio"]
    same = result["real_against_real"]
    return f"""
## The simulator: a likeness of a real tomogram

Measured on y < 160 of the real tomogram, compared with y >= 160. Root mean square error of the logarithmic spectrum, also
resolved by tilt; area under the curve of a classifier of real and simulated patches; recall of the simulated ribosomes
by a blob picker with one candidate each. Real against real: {same["rmse"]:.3f} and {same["auc"]:.3f}. The error after
matching is {result["ratio"]["mean"]:.3f} of the one before; at most {result["ratio"]["limit"]} was wanted.

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
    columns = ["filter", "seconds", "processor seconds", "of a copy", "times the copy", "working GB"]
    return f"""
## Denoising: time and memory

A volume of {" x ".join(map(str, settings["shape"]))} voxels in memory, {settings["device"]}, {settings["threads"]} thread{"" if settings["threads"] == 1 else "s"}, load {settings["load_before"][0]:.1f} from other
work before the run. Reading every voxel and writing it once moves {settings["floor_bytes"] / 1e6:.0f} MB: what a copy of them takes is the floor.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def layout() -> str:
    """What the layout of the weights is worth on a CPU."""
    result = load("layout_speed")
    if result is None:
        return ""
    rows = [
        [
            row["network"],
            f"{row['batch']} x {row['side']}³",
            "step" if row["learning"] else "answer",
            f"{row['plain']:.3f}",
            f"{row['channels_last']:.3f}",
            f"{row['plain'] / row['channels_last']:.2f}",
        ]
        for row in result["rows"]
    ]
    columns = ["network", "patches", "what", "plain, s", "channels last, s", "ratio"]
    return f"""
## Training on a CPU: how weights lie in memory

Seconds of the processor on {result["threads"]} thread, best of five, beside other runs on the same two cores.

{grid(columns, rows)}

Command: `{result["command"]}`
"""


def gap() -> str:
    """What each difference between source and target costs."""
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
## Adaptation: what each difference from the source costs

IoU of VoxResNet in size xs after {result["time"]} of one core on the source of the suite `uda`, in worlds that differ from it in one
thing each. The first two rows: on the target of that suite, from the source alone and from labels of the target.

{grid(["world", "by seed", "mean"], rows)}

Command: `{result["command"]}`
"""


def filtered() -> str:
    """What a filter before a network without a target brings."""
    results = [r for suite in ("zsda", "zsda-tomograms") if (r := load(f"denoised_input-{suite}"))]
    if not results:
        return ""
    tables = []
    for metric in ("iou", "dice", "localisation_f1"):
        cells: dict[tuple[str, str], dict[str, str]] = {}
        for row in (row for result in results for row in result["rows"]):
            seeds = cell([seed[metric] for seed in row["seeds"]])
            cells.setdefault((row["world"], row["model"]), {})[row["filter"]] = seeds
        kinds = list(next(iter(cells.values())))
        rows = [
            [world, model, *(by_filter[kind] for kind in kinds)]
            for (world, model), by_filter in cells.items()
        ]
        tables.append(f"{metric}:\n\n{grid(['world', 'model', *kinds], rows)}")
    together = "\n\n".join(tables)
    commands = ", ".join(f"`{result['command']}`" for result in results)
    return f"""
## Without a target: a filter before the network

Scores on all of the worlds of the suite `zsda` and on the tomograms of `zsda-tomograms`, by what was done to them before they were labelled:
models of {results[0]["time"]} of one core, mean ± standard deviation over three seeds. "target" are unseen structures under another microscope.

{together}

Commands: {commands}
"""


def picked(name: str, title: str) -> str:
    """What picking costs from heatmaps and from masks, and how exact and separate the picks are."""
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
        "what is picked from, and how", "network", "network, s", "picking, s", "picking, times the first",
        "both, times the first", "F1", "distance of hits, Å",
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
{settings["threads"]} thread{"" if settings["threads"] == 1 else "s"}. Processor seconds, least of {settings["repeats"]}, load {settings["load_before"][0]:.1f} from other work before the run. Picked are ideal maps, rendered from the truth,
so F1 and distance are what the picker makes of a perfect answer; a hit is {settings["reach_radii"]} radii away at most.

{grid(columns, rows)}

Spheres in chains of two to four, neighbours 1.0 to 1.2 diameters apart: F1 by radius in voxels.

{grid(["radius", "spheres", *ways], touching)}

Distance of picks from centres between the voxels, on clean heatmaps, root mean square in voxels of the heatmap: {errors}.

Command: `{result["command"]}`
"""


def alike() -> str:
    """How well the built-in species are told apart."""
    result = load("library_correlation")
    if result is None:
        return ""
    first = sorted(result["pairs"], key=lambda pair: -pair[2])[:8]
    rows = [[one, other, f"{value:.3f}"] for one, other, value in first]
    return f"""
## The simulator: built-in species

{len(result["species"])} species, {len(result["pairs"])} pairs: the largest correlation of two, over all rotations and shifts of a voxel,
is {result["largest"]:.3f} at {result["voxel_size"]:.0f} Å voxels ({result["limit"]} was the limit). The pairs most alike:

{grid(["one", "the other", "correlation"], rows)}

Command: `{result["command"]}`
"""


def chosen() -> str:
    """How often the rule that chooses between source and adapted model was right, over all suites."""
    files = sorted(RESULTS.glob("suite-uda*.json"))
    results = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    total = selection_summary(results)
    if not total["runs"]:
        return ""
    by_suite = [(result["title"], selection_summary([result])) for result in results]
    rows = [
        [title, *(f"{v:g}" for v in row.values())]
        for title, row in [*by_suite, ("all", total)]
        if row["runs"]
    ]
    return f"""
## Adaptation: the choice without labels

Every adaptation ends with a choice between two models that no label has a part in. Labels say afterwards whether the
other one would have been better by more than 0.005, in the score of the suite on what was held out.

{grid(["suite", *total], rows)}
"""


Page = Callable[[], str]
PAGES: dict[str, tuple[Page, ...]] = {
    "real_ribosomes": (
        partial(real, "real_ribosomes", "Ribosomes in a real tomogram"),
        partial(real, "real_ribosomes_xs", "A smaller network with more regularization"),
        limit,
    ),
    "sim_deepfinder": (
        partial(simulated, "sim_deepfinder", "Third-party simulations: three networks at equal time"),
        partial(simulated, "sim_deepfinder-1h", "An hour for the DeepFinder network"),
        partial(simulated, "sim_deepfinder-1h-voxresnet", "An hour for VoxResNet"),
    ),
    "simulator_speed": (speed,),
    "simulator_stream_cpu_1": (streamed,),
    "simulator_learnable": (learnable,),
    "simulator_match": (matched,),
    "denoise_speed": (denoised,),
    "denoised_input": (filtered,),
    "picking_speed": (
        partial(picked, "picking_speed", "Picking: heatmaps, regions and mean shift"),
        partial(picked, "picking_speed_crowded", "The same in a crowded tomogram"),
    ),
    "layout_speed": (layout,),
    "adaptation_gap": (gap,),
    "library_correlation": (alike,),
    "model_selection": (chosen,),
}
"""Page -> its parts; what has no result file yet is left out."""


def suite(path: Path) -> str:
    """All tables of a suite of `cryovox benchmark`."""
    result = json.loads(path.read_text(encoding="utf-8"))
    facts = "; ".join(f"{key}: {value}" for key, value in result["data"].items())
    special = path.stem.removeprefix(f"suite-{result['suite']}").replace("-", " ").strip()
    return f"""
## {result["title"]}{f" ({special})" if special else ""}

After {result["source"]}. Tier {result["tier"]}, {result["device"]}, {result["at_once"]} trainings at a time on
{result["cores"]} cores. Data: {facts}.

{markdown(result)}

Command: `{result["command"]}`
"""


def networks() -> str:
    """What each network costs."""
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
    columns = ["network", "size", "output", "patch", "weights, M", "GFLOP a patch", "kFLOP a voxel"]
    return f"""# Networks and what they cost

Parameters and operations of every network and size, for one input channel and 16 output channels.

- **weights**: all parameters, including those used in training only.
- **GFLOP a patch**: operations to predict one patch; a multiplication with its addition counts as two. Convolutions, matrix
  products and attention are counted. Operations do not predict run time: small channel counts and depth-wise kernels reach a
  fraction of a processor's speed.
- **size**: `xs` is for tens of picks, `s` trains on two CPU cores, `paper` is the published size.

[Methods](methods/README.md) describes the networks. `cryovox models` prints this table. It is rendered by
`python benchmarks/render.py` from `src/cryovox/models/costs.json`, which `python -m cryovox.models.cost` prints and a test
compares with the networks.

{grid(columns, rows)}
"""
