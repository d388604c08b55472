"""Every command of the pages: run in the order of its page on a small project, or listed with a reason.

The tables say how a command is shortened. A row applies to commands that have all of its words.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"^- \*\*Command\.\*\* `(cryovox [^`]+)`", re.MULTILINE)
"""The command of a method."""

FIND = "--device cpu --quiet --overwrite --no-lamella --noise-control 0 --max-count 20"
TRAIN = "--device cpu --quiet --overwrite --steps 2 --warmup 1 --batch 2 --patch 16 --validate-every 2"
HEATMAP = f"{TRAIN} --options '{{widths: [4, 8], blocks: [0, 0]}}'"
WIDE = TRAIN.replace("--patch 16", "--patch 32")
MASKS = f"{TRAIN} --options '{{widths: [4, 8]}}'"
VIEWS = "{dim: 32, layers: 2, heads: 2, context: [8, 16], width: 8, clusters: 8}"
CROWDED = "--scene.occupancy 0.1 --scene.vesicles.count 0 --scene.vesicles.max-count 0"
SIMULATE = "--device cpu --quiet --count 1"
ADDED = {
    "find": FIND,
    "segment": "--device cpu --quiet --overwrite",
    "match": "--device cpu --quiet --overwrite --angle 60 --contrast dark --max-count 5 --no-refine",
    "train": HEATMAP,
    "train embedded": TRAIN,
    "train voxresnet": MASKS,
    "train vox-uda": MASKS,
    "train mean-teacher": MASKS,
    "train vox-zsda": MASKS,
    "train vox-zsda-few": MASKS,
    "train mvgformer": f"{WIDE} --options '{VIEWS}'",
    "train unet3d": f"{WIDE} --options '{{widths: [4, 8, 16, 32]}}'",
    "train deepfinder": f"{WIDE} --options '{{widths: [4, 6, 8]}}'",
    "train swift3d": WIDE,
    "train multi-view": WIDE,
    "train residual-unet": HEATMAP,
    "suggest": "--device cpu --quiet --count 3",
    "denoise": "--device cpu --quiet",
    "match --at": "--device cpu --quiet --overwrite --angle 60 --contrast dark",
    "extract": "--pad",
    "extract optimisation_set.star": "",
    "extract tomograms.star": "",
    "simulate": f"{SIMULATE} --scene.shape 36 72 72",
    "simulate --match": f"{SIMULATE} --species apo-ferritin --scene.counts apo-ferritin 12 {CROWDED}",
    "simulate subtomogram-50": "--quiet --count 32",
}
"""Words of a command -> further options; the row with most words counts."""

REPLACED = {
    "local:4": "local:1",
    "DATASET": "my-dataset",
    "LABELED": "my-dataset",
    "UNLABELED...": "tomograms",
    "MODEL": "run/model.safetensors",
    "PICKS": "TS_01.star",
}
"""Words of a command -> others."""

NOT_RUN = {
    "python3 -m venv": "installation",
    "pip install": "installation",
    "docker": "needs Docker",
    "apptainer": "needs Apptainer",
    "napari": "opens a window; tests/napari starts the plugin offscreen",
    "dask": "runs until it is ended; tests/workflows/test_cluster.py starts both programs",
    "make": "takes hours",
    "python": "benchmarks take minutes to hours",
    "pytest": "tests of a network that is not there",
    "lint-imports": "runs in `make check`",
    "fetch dataset shrec2021": "downloads gigabytes",
    "benchmark": "takes hours; tests/benchmark runs the smallest tier",
    "--model thin": "a network of the page; tests/benchmark/test_entry_points.py",
    "train squared": "a strategy of the page; tests/benchmark/test_entry_points.py",
}
"""Words of a command -> why it is not run."""

TOO_SHORT = "neither the source model nor the adapted model predicts"
"""What may be said, with exit code 1, of a training of two steps."""

FOUND = "cryovox find tomograms --model run/model.safetensors --out found"
BEFORE = {
    "napari.md": (FOUND,),
    "subtomograms.md": ("rm -r set.zarr simulated.zarr",),
    "particles.md": (FOUND, "rm TS_01.csv TS_01.tbl TS_01.star picks.star"),
    "membranes.md": (FOUND, "cp -r --remove-destination membrane-dataset/. my-dataset"),
}
"""Page -> commands whose results the page takes as given."""


def written(page: Path) -> list[list[str]]:
    """The commands of a page in their order."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()] + SPAN.findall(text)
    words = [shlex.split(os.path.expandvars(line), comments=True) for line in lines]
    return [own[own[0] == "exec" :] for own in words if own]


def has(words: list[str], row: str) -> bool:
    return set(row.split()) <= set(words)


def reason(words: list[str]) -> str:
    return next((why for row, why in NOT_RUN.items() if has(words, row)), "")


def shortened(words: list[str]) -> list[str]:
    rows = [row for row in ADDED if has(words, row)]
    longest = max(rows, key=lambda row: len(row.split()), default="")
    return [REPLACED.get(word, word) for word in words] + shlex.split(ADDED.get(longest, ""))


def runnable(page: Path) -> list[list[str]]:
    return [words for words in written(page) if not reason(words)]


@pytest.mark.slow
@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES if runnable(page)])
def test_the_commands_of_a_page_run(cli, workplace, page):
    before = [shlex.split(line) for line in BEFORE.get(page.name, ())]
    for words in before + runnable(page):
        if words[0] == "cryovox":
            answer = cli(*shortened(words)[1:])
            assert answer.code == 0 or TOO_SHORT in answer.err, (words, answer.err)
        else:
            subprocess.run(words, check=True)


def test_every_command_is_run_or_listed():
    programs = {words[0] for page in PAGES for words in runnable(page)}
    assert programs == {"cryovox", "sed"}, "run them, or say in NOT_RUN why not"
    assert sum(len(runnable(page)) for page in PAGES) > 130


def test_the_tables_name_commands_of_the_pages():
    commands = [words for page in PAGES for words in written(page)]
    for table in (ADDED, NOT_RUN, REPLACED):
        for row in table:
            assert any(has(words, row) for words in commands), row
    assert set(BEFORE) <= {page.name for page in PAGES}
