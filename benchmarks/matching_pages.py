"""Text of the result pages of template matching."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from cryovox.benchmark.tables import grid

RESULTS = Path(__file__).parent / "results"
CASES = {"noise": "noise alone", "particles": "with particles", "others": "with six other species too"}
MANY = ("1", "2", "3", "4")


def load(name: str) -> dict[str, Any] | None:
    """A result file, or None if it does not exist."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def size(shape: list[int]) -> str:
    """A shape in words."""
    return " x ".join(map(str, shape))


def peers(name: str, title: str) -> str:
    """Time, memory and recall beside pyTME."""
    result = load(name)
    if result is None:
        return ""
    rows = [
        [run["program"], str(run["round"] + 1), f"{run['processor_seconds']:.1f}", f"{run['memory_gib']:.2f}"]
        + [f"{run['recall'][b]:.3f}" for b in ("1", "2", "4")]
        for run in result["runs"]
    ]
    settings = result["settings"]
    columns = ["program", "round", "processor seconds", "memory (GiB)", "recall at 1x", "2x", "4x"]
    return f"""
## {title}

{size(settings["shape"])} voxels of {settings["voxel"]:g} Å with {result["particles_found"]} 80S ribosomes among as many proteasomes in white noise
(variance of signal over noise {settings["snr"]:g}); {result["rotations"]} rotations, the same template and spherical mask, one thread, programs in
turn, each from its start to its last file. pyTME {result["pytme"]}. Recall is that of the best candidates, 1, 2 and 4 times as many as there are
particles.

{grid(columns, rows)}

Processor time of cryovox over pyTME: {result["time_ratio"]:.2f}.

Command: `{result["command"]}`
"""


def levers() -> str:
    """What each lever of the speed gains, and recall by the grid of the search."""
    result = load("match_levers")
    if result is None:
        return ""
    first = next(iter(result["seconds"].values()))
    speed = [
        [name, f"{seconds:.2f}", f"{seconds / first:.2f}"] for name, seconds in result["seconds"].items()
    ]
    shares = list(dict.fromkeys(row["share"] for row in result["grids"]))
    grids = []
    for share in shares:
        rows = [row for row in result["grids"] if row["share"] == share]
        recall = [f"{mean(row[b] for row in rows):.3f}" for b in ("1", "2", "4")]
        name = "that of the tomogram" if share == 0 else f"{share:g}"
        grids.append(
            [name, f"{rows[0]['voxel_size']:.1f}", f"{mean(row['seconds'] for row in rows):.1f}", *recall]
        )
    settings = result["settings"]
    particles = sum(row["particles"] for row in result["grids"]) // len(shares)
    return f"""
## What makes the search fast

Voxel size of the search, as a share of the radius of the particle times the angular step; recall of {particles} 80S ribosomes in
{len(result["grids"]) // len(shares)} simulated tomograms of {size(settings["shape"])} voxels of {settings["voxel"]:g} Å (tilt series, CTF, variance of signal
over noise {settings["snr"]:g}) at {settings["angle"]:g} degrees, and processor seconds of the search:

{grid(["share", "voxel size (Å)", "seconds", "recall at 1x", "2x", "4x"], grids)}

On one grid, without one lever after another ({settings["rotations"]} rotations, processor seconds):

{grid(["search", "seconds", "ratio"], speed)}

Command: `{result["command"]}`
"""


def poses(name: str, title: str) -> str:
    """Accuracy of poses by species."""
    result = load(name)
    if result is None:
        return ""
    rows = []
    for row in result["species"]:
        cells = [row["species"], row["group"], str(row["rotations"])]
        for kind in ("whole", "at_picks"):
            cells += [f"{row[kind]['median_degrees']:.2f}", f"{row[kind]['degrees_of_95_percent']:.2f}"]
        rows.append([*cells, f"{row['seconds']['whole']:.1f}", f"{row['time_ratio']:.3f}"])
    settings = result["settings"]
    columns = ["species", "group", "rotations"]
    columns += ["whole: median (°)", "95 % (°)", "at picks: median (°)", "95 % (°)"]
    noise = (
        f"white noise (variance of signal over noise {settings['snr']:g})" if settings["snr"] else "no noise"
    )
    return f"""
## {title}

{settings["count"]} particles of each species with a radius of {settings["radius"]:g} voxels at random poses, a missing wedge of 30 degrees on each side, {noise},
angular step {settings["angle"]:g} degrees. Angles to the true poses modulo symmetry, after the
refinement. At picks: positions that are up to a voxel off, and shifts of up to a quarter of the radius. Seconds are processor time of the whole
search, and the last column is the time at picks over it.

{grid([*columns, "whole (s)", "time ratio"], rows)}

Command: `{result["command"]}`
"""


def statistics() -> str:
    """Observed over expected false positives."""
    rows, commands = [], []
    counted = "decoy, one more than counted"
    former = [(f"match_statistics_{case}", "decoy, tail of 20 scores (before)") for case in CASES]
    for name, kind in (("match_statistics", counted), *former):
        result = load(name)
        if result is None:
            continue
        commands.append(f"`{result['command']}`")
        for case, backgrounds in result["observed_over_expected"].items():
            for decoy, ratios in backgrounds.items():
                count = len([r for r in result["tomograms"] if (r["case"], r["decoy"]) == (case, decoy)])
                background = "noise" if decoy == "none" else kind
                values = (f"{ratios[n]:.2f}" for n in ("1", "10", "100"))
                rows.append([CASES[case], background, str(count), *values])
    if not rows:
        return ""
    return f"""
## Expected false positives

False picks that were counted at the thresholds for 1, 10 and 100 expected ones, over these numbers: mean over tomograms with colored noise and a
missing wedge. The background is phase-randomized noise, or the decoy, the mirror image of the template in the tomogram itself
([decision 40](../decisions/0040-counted-false-positives.md)).

{grid(["tomograms", "background", "n", "at 1", "at 10", "at 100"], rows)}

Commands: {", ".join(commands)}
"""


def decoys() -> str:
    """Other particles above the scores of decoys."""
    result = load("match_decoys")
    if result is None:
        return ""
    names = {"mirror": "mirror image", "random": "random phases", "both": "both"}
    ranks = list(next(iter(result["counted_over_expected"].values())))
    rows = [
        [row["species"], *(f"{row['above'][kind][n]:.0f}" for kind in names for n in ranks)]
        for row in result["templates"]
    ]
    means = [f"{result['counted_over_expected'][kind][n]:.1f}" for kind in names for n in ranks]
    settings = result["settings"]
    return f"""
## Decoys among other species

Templates at the places of {settings["particles"]} particles of each other species: how many of these score above the {", ".join(ranks)} highest decoys (per
template with random phases, of which there are {settings["random"]}).

{grid(["template", *(f"{name}: {n}" for name in names.values() for n in ranks)], [*rows, ["mean, over the number of decoys", *means]])}

Command: `{result["command"]}`
"""


def real() -> str:
    """Recall on the real tomogram."""
    results = [
        (kind, result)
        for kind, name in (("as by default", "match_real"), ("regularized", "match_real_regularized"))
        if (result := load(name))
    ]
    text = ""
    if results:
        rows = [
            [kind, part]
            + [f"{row[b]['value']:.3f} [{row[b]['low']:.3f}, {row[b]['high']:.3f}]" for b in MANY]
            for kind, result in results
            for part, row in result.get("parts", {"whole": result["recall"]}).items()
        ]
        first = results[0][1]
        text += f"""
## Ribosomes in half of a real tomogram

Recall of {first["settings"]["picks"]} picks, about a third of the ribosomes, at 1 to 4 candidates per pick; {first["rotations"]} rotations.
95 % CI over picks. 91 of the picks took part in the choice of the mask and of the regularization (y < 160).

{grid(["score", "part", *(f"{b}x" for b in MANY)], rows)}

Commands: {", ".join(f"`{result['command']}`" for _, result in results)}
"""
    choices = [c for name in ("match_real_choice", "match_real_choice_regularized") if (c := load(name))]
    if choices:
        rows = [
            [name, *(f"{row[b]:.3f}" for b in MANY)]
            for choice in choices
            for name, row in choice["recall"].items()
        ]
        text += f"""
## The same tomogram, y < 160: choice of settings

{choices[0]["picks"]} picks. Masks are in radii of the particle.

{grid(["setting", *(f"{b}x" for b in MANY)], rows)}

Commands: {", ".join(f"`{choice['command']}`" for choice in choices)}
"""
    return text


def speeds() -> str:
    """Speed beside the transforms alone."""
    rows, commands = [], []
    for name in ("match_speed", "match_speed_whole", "match_speed_large"):
        result = load(name)
        if result is None:
            continue
        settings = result["settings"]
        count = result.get("rotations_searched", settings["rotations"])
        seconds = min(result["seconds"]["search"])
        rate, ratio = result["rotation_voxels_per_second"], result["ratio_to_transforms"]
        rows.append([size(settings["shape"]), str(count), f"{seconds:.1f}", f"{rate:.3g}", f"{ratio:.2f}"])
        commands.append(f"`{result['command']}`")
    if not rows:
        return ""
    columns = [
        "voxels",
        "rotations",
        "processor seconds",
        "rotations x voxels per second",
        "over the transforms",
    ]
    return f"""
## Speed beside the Fourier transforms alone

Search on the grid of the tomogram, one thread. The floor is one real transform and its inverse of a block of the same size for each rotation.

{grid(columns, rows)}

Commands: {", ".join(commands)}
"""


def shrec() -> str:
    """F1 by species on the stand-in of SHREC 2021."""
    result = load("match_shrec")
    if result is None:
        return ""
    methods = result["template_matching"]
    species = sorted(result["species"], key=lambda row: -row["radius"])
    rows = [
        [row["species"], f"{row['radius']:.0f}", str(row["particles"])]
        + [f"{method['f1'].get(row['species'], 0.0):.3f}" for method in methods.values()]
        for row in species
    ]
    beside = [
        [name, f"{method['f1'][result['any']]:.3f}", f"{method['f1'][result['mean']]:.3f}"]
        for name, method in methods.items()
    ]
    beside += [
        [name, f"{mean(row['any class']):.3f}", f"{mean(row['mean over classes']):.3f}"]
        for name, row in result["networks"].items()
    ]
    return f"""
## Thirteen species: F1 by size

The test tomogram of the suite [tomograms](suite-tomograms.md), {size(result["data"]["shape"])} voxels of {result["data"]["voxel_size"]:g} Å, at {result["settings"]["angle"]:g} degrees. Template
matching is given the true structures and the true number of particles of each species.

{grid(["species", "radius (Å)", "particles", *methods], rows)}

Beside the networks of the suite, trained for 3 minutes, which keeps their means only:

{grid(["method", "any species", "mean over species"], beside)}

Command: `{result["command"]}`
"""


def simulated_recipe(title: str, *names: str) -> str:
    """Matches beside networks trained on them, in simulated tomograms."""
    parts = [part for name in names if (part := load(name))]
    if not parts:
        return ""
    rows = []
    runs = [run for part in parts for run in part["runs"]]
    for where in ("trained on", "new"):
        for method in ("matches", "network"):
            own = [run[f"{method}, {where}"] for run in runs]
            cells = [
                " / ".join(f"{row[key]:.3f}" for row in own)
                for key in ("f1", "precision", "recall", "average_precision")
            ]
            rows.append([f"{method}, tomograms {where}", *cells])
    settings = parts[0]["settings"]
    best = settings.get("labels")
    labels = (
        f"The {best} best matches" if best else f"Matches at a false discovery rate of {settings['fdr']:g}"
    )
    return f"""
## {title}

{settings["particles"]} 80S ribosomes among as many proteasomes and fatty acid synthases, {size(settings["shape"])} voxels of {settings["voxel"]:g} Å, variance of
signal over noise {settings["snr"]:g}. {labels} in two tomograms train `semi-etpicker` for {settings["time"]} of processor
time; a third tomogram is new. Values of {len(runs)} seeds, which draw tomograms and weights; F1 at the own thresholds, average precision without
one.

{grid(["picks", "F1", "precision", "recall", "average precision"], rows)}

Commands: {", ".join(f"`{part['command']}`" for part in parts)}
"""


def real_recipe() -> str:
    """Matches beside networks trained on them, in the real tomogram."""
    text = ""
    if result := load("no_clicks_real"):
        rows = [
            [
                method,
                str(run[method]["own picks"]),
                *(f"{run[method][f'recall at {b}x']:.3f}" for b in (1, 2, 4)),
            ]
            for run in result["runs"]
            for method in ("matches", "network")
        ]
        text += f"""
## A picker without clicks: the front of a real tomogram

{result["runs"][0]["picks"]} picks on y < 160, about a third of the ribosomes, which no training sees. The network is trained for {result["settings"]["time"]} on the matches
there.

{grid(["picks", "at own threshold", "recall at 1x", "2x", "4x"], rows)}

Command: `{result["command"]}`
"""
    return text


TEMPLATE_MATCHING = (
    partial(peers, "match_peers", "Template matching beside pyTME"),
    partial(peers, "match_peers_small", "The same on a small tomogram"),
    levers,
    speeds,
    partial(poses, "match_poses", "Poses: the whole search and the search at picks"),
    partial(
        poses, "match_poses_26s", "The 26S proteasome, with a first round of the refinement at the full step"
    ),
    partial(poses, "match_poses_cubic", "Cubic groups in a larger tomogram, with the refinement of today"),
    partial(poses, "match_poses_clean", "Poses without noise"),
    statistics,
    decoys,
    real,
    shrec,
    partial(
        simulated_recipe, "A picker without clicks: simulated", "no_clicks_s0", "no_clicks_s1", "no_clicks_s2"
    ),
    partial(simulated_recipe, "A picker without clicks: more noise", "no_clicks_noisy"),
    real_recipe,
)
"""Parts of the page."""
