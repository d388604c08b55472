"""The commands of pages, in their order, on a small project; trainings take two steps."""

import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cryovox.core.dataset import Dataset, Entry
from cryovox.core.particles import Species
from cryovox.core.volume import LabelMap, Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import write_labels, write_particles, write_volume
from cryovox.models.card import EMBEDDED, model_file
from cryovox.simulate.phantom import PhantomConfig, phantom

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
NAMES = ("TS_01", "TS_02", "TS_03", "TS_07")
CONFIG = PhantomConfig(shape=(32, 64, 64), count=8, snr=2.0)
VOXEL = CONFIG.voxel_size
SHORT = {
    "find": "--device cpu --quiet --noise-control 0 --no-lamella",
    "segment": "--device cpu --quiet",
    "train": "--device cpu --quiet --steps 2 --warmup 1 --batch 2 --patch 16 --validate-every 2",
    "suggest": "--device cpu --quiet --count 3",
    "denoise": "--device cpu --quiet",
    "extract": "--pad",
}
"""Further options of commands."""
OTHERS = ("pip", "napari", "git", "make", "python")
"""Programs that are not run."""


RUN = ("report", "napari", "membranes", "crashes", "denoise", "suggest")


def commands(page):
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for block in BLOCK.findall(text) for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [own for own in words if own and own[0] not in OTHERS]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Tomograms with labels, picks, masks, halves and a model, under the names that the pages use."""
    root = tmp_path_factory.mktemp("project")
    species = (
        Species(name="ribosome", label=1, radius=70.0),
        Species(name="membrane", label=2, radius=30.0, extended=True),
    )
    entries = []
    for number, name in enumerate(NAMES):
        drawn = phantom(CONFIG, np.random.default_rng(number))
        picks = drawn.particles.named("capsid")
        picks = replace(picks, species=np.full(len(picks), "ribosome"))
        data, labels = drawn.volume, np.asarray(drawn.labels.data)
        for folder in ("", "tomograms", "my-dataset/tomograms"):
            write_volume(root / folder / f"{name}.mrc", data)
        for half, seed in (("even", 1), ("odd", 2)):
            noise = np.random.default_rng([number, seed]).normal(size=CONFIG.shape).astype(np.float32)
            noisy = Volume(np.asarray(data.data) + noise, data.voxel_size)
            write_volume(root / half / f"{name}.mrc", noisy)
            write_volume(root / f"{name}_{half}.mrc", noisy)
        for folder, mask in (("membranes", labels == 2), ("masks", np.ones(CONFIG.shape))):
            write_volume(root / folder / f"{name}.mrc", Volume(mask.astype(np.int8), VOXEL))
        write_labels(root / "my-dataset" / "labels" / f"{name}.mrc", LabelMap(labels, VOXEL, species))
        write_particles(root / f"{name}.csv", picks, tomogram=data)
        write_particles(root / f"{name}.star", picks, tomogram=data, tomogram_name=name)
        kept = replace(picks, extra={"keep": np.array(["1", "0"] * len(picks))[: len(picks)]})
        if not number:
            write_particles(root / "curated.star", kept, tomogram=data, tomogram_name=name)
            for file in ("kept.star", "no.star"):
                write_particles(root / file, picks, tomogram=data, tomogram_name=name)
        entries.append(
            Entry(
                name=name, tomogram=root / "my-dataset" / "tomograms" / f"{name}.mrc", contrast="dark",
                labels=root / "my-dataset" / "labels" / f"{name}.mrc", split="val" if number else "train",
            )
        )  # fmt: skip
    dataset = Dataset(voxel_size=VOXEL, species=species, entries=tuple(entries))
    dataset_files.write(root / "my-dataset", dataset)
    (root / "subset.txt").write_text("TS_01\nTS_03\n")
    rows = ["tomogram,defocus", *(f"{name},{i + 2}" for i, name in enumerate(NAMES))]
    (root / "acquisition.csv").write_text("\n".join(rows))
    (root / "run").mkdir()
    shutil.copy(model_file(EMBEDDED), root / "run" / "model.safetensors")
    return root


def without_membranes(root):
    """The dataset of pages that train to pick."""
    file = root / "my-dataset" / "dataset.yaml"
    content = dataset_files.described(file)
    ribosome = content.species[:1]
    for entry in content.entries:
        labels = dataset_files.load_annotations(entry, content)[0]
        write_labels(entry.labels, LabelMap((np.asarray(labels.data) == 1).astype(np.uint8), VOXEL, ribosome))
    dataset_files.write(root / "my-dataset", content.model_copy(update={"species": ribosome}))


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(cli, project, tmp_path, monkeypatch, page):
    root = tmp_path / "project"
    shutil.copytree(project, root)
    monkeypatch.chdir(root)
    program = root / "bin" / "chimerax"  # without a display, `view` only prints how to start it
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("DISPLAY", raising=False)
    if page != "membranes":
        without_membranes(root)
    for words in prepared(page) + commands(page):
        assert words[0] == "cryovox", words
        name = words[1]
        more = shlex.split(SHORT.get(name, ""))
        own = words[1:] + [*more] + (["--overwrite"] if name in ("train", "find", "segment") else [])
        if name == "train" and "--max-time" in own:
            at = own.index("--max-time")
            own = own[:at] + own[at + 2 :]
        answer = cli(*own)
        assert answer.code == 0, (words, answer.err)


def prepared(page):
    """Commands whose results a page takes as given."""
    found = ["cryovox", "find", "tomograms", "--out", "found"]
    return [found] if page in ("napari", "membranes") else []
