"""Every command that takes a volume, on every volume format: the same answer as on a plain MRC file."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from cryovox.cli import _commands
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.data.regions import load_regions
from cryovox.formats import (
    IMAGES,
    VOLUMES,
    read_header,
    read_particles,
    read_volume,
    scores,
    subtomograms,
    write_particles,
    write_volume,
)
from cryovox.formats import dataset as dataset_files
from cryovox.simulate.phantom import PhantomConfig
from cryovox.workflows.simulation.phantoms import write_phantoms

ORIGIN, NSTART = (10.0, 20.0, 30.0), (4, -5, 6)


def by_name(suffix: str) -> Callable[[Path, Volume], Path]:
    def write(folder: Path, volume: Volume) -> Path:
        path = folder / f"TS{suffix}"
        is_mrc = suffix in (".rec", ".map", ".ccp4")
        write_volume(folder / "TS.mrc" if is_mrc else path, volume)
        return (folder / "TS.mrc").rename(path) if is_mrc else path

    return write


def ome_zarr(order: str, version: int, unit: str) -> Callable[[Path, Volume], Path]:
    """As others write it: axes in any order, of length 1 besides z, y and x."""

    def write(folder: Path, volume: Volume) -> Path:
        path, factor = folder / "TS.zarr", {"angstrom": 1.0, "nanometer": 0.1}[unit]
        data = np.asarray(volume.data).transpose(["zyx".index(a) for a in order if a in "zyx"])
        shape = [volume.shape["zyx".index(a)] if a in "zyx" else 1 for a in order]
        shifts = dict(zip("zyx", volume.origin, strict=True))
        axes = [{"name": a, "type": "space", "unit": unit} if a in "zyx" else {"name": a} for a in order]
        steps = [volume.voxel_size * factor if a in "zyx" else 1.0 for a in order]
        moved = [shifts.get(a, 0.0) * factor for a in order]
        rows = [{"type": "scale", "scale": steps}, {"type": "translation", "translation": moved}]
        root = zarr.create_group(path, zarr_format=version)
        root.create_array("0", data=data.reshape(shape))
        scales = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": rows}]}
        about = {"multiscales": [scales]}
        root.attrs.update(about if version == 2 else {"ome": {"version": "0.5", **about}})
        root.attrs["cryovox"] = {"nstart": list(volume.nstart)}
        return path

    return write


FORMATS = {
    "mrc": by_name(".mrc"),
    "rec": by_name(".rec"),
    "map": by_name(".map"),
    "ccp4": by_name(".ccp4"),
    "mrc.gz": by_name(".mrc.gz"),
    "mrc.bz2": by_name(".mrc.bz2"),
    "h5": by_name(".h5"),
    "hdf": by_name(".hdf"),
    "hdf5": by_name(".hdf5"),
    "zarr": by_name(".zarr"),
    "zarr-0.4": ome_zarr("zyx", 2, "angstrom"),
    "zarr-0.5": ome_zarr("zyx", 3, "nanometer"),
    "zarr-tczyx": ome_zarr("tczyx", 2, "angstrom"),
    "zarr-xyz": ome_zarr("xyz", 3, "nanometer"),
}
QUICK_FORMATS = ("map", "mrc.gz", "zarr-0.4", "zarr-tczyx", "h5")
"""One of each reader: `make test` runs these with every verb, `make test-slow` the others."""
QUICK_TRAININGS = ("supervised", "distill", "semi-etpicker", "vox-uda", "vox-zsda")


@dataclass(frozen=True)
class Inputs:
    tomogram: Path
    labels: Path
    mask: Path
    particles: Path
    phantoms: Path
    model: Path


def volumes(phantoms: Path, name: str) -> dict[str, Volume]:
    """A tomogram, its labels as bytes, and a mask of a part of it."""
    tomogram = read_volume(phantoms / "tomograms" / f"{name}.mrc")
    labels = read_volume(phantoms / "labels" / f"{name}.mrc")
    mask = np.zeros(labels.shape, np.int8)
    mask[:, :, : labels.shape[2] * 3 // 4] = 1
    placed = {"origin": ORIGIN, "nstart": NSTART}
    return {
        "tomogram": replace(tomogram, data=np.asarray(tomogram.data, dtype=np.float32), **placed),
        "labels": replace(labels, data=np.asarray(labels.data).astype(np.int8), **placed),
        "mask": replace(labels, data=mask, **placed),
    }


def written(root: Path, kind: str, phantoms: Path, name: str) -> dict[str, Path]:
    """All three in a format, each called TS, and the particles."""
    (root / kind).mkdir(parents=True)
    tomogram = read_volume(phantoms / "tomograms" / f"{name}.mrc")
    found = read_particles(phantoms / "particles" / f"{name}.star", tomogram=tomogram)
    paths = {"particles": root / kind / "TS.star"}
    write_particles(paths["particles"], replace(found, tomograms=None), tomogram=tomogram, tomogram_name="TS")
    for what, volume in volumes(phantoms, name).items():
        folder = root / kind / what
        folder.mkdir()
        paths[what] = FORMATS[kind](folder, volume)
    return paths


@pytest.fixture(scope="session")
def inputs(phantoms, model, tmp_path_factory) -> Callable[[str], Inputs]:
    root, ready = tmp_path_factory.mktemp("formats"), dict[str, Inputs]()

    def make(kind: str) -> Inputs:
        if kind not in ready:
            paths = written(root, kind, phantoms, "phantom_03")
            ready[kind] = Inputs(**paths, phantoms=phantoms, model=model)
        return ready[kind]

    return make


def placed(path: Path) -> dict[str, object]:
    """A written volume with its place, which all verbs keep."""
    header, volume = read_header(path), read_volume(path)
    assert (header.origin, header.nstart) == (ORIGIN, NSTART), path
    return {"data": np.asarray(volume.data), "voxel_size": volume.voxel_size}


def picks(path: Path, of: Inputs) -> np.ndarray:
    return read_particles(path, tomogram=read_volume(of.tomogram)).positions


def doctor(run, of: Inputs, out: Path):
    run("doctor", of.tomogram, "--json", out)
    (findings,) = json.loads(out.read_text()).values()
    return {"findings": [[f["level"], f["what"], f["found"]] for f in findings]}


def convert(run, of: Inputs, out: Path):
    run("convert", of.tomogram, out / "a.mrc", "--verify")
    run("convert", of.tomogram, out / "a.zarr", "--verify")
    run("convert", of.labels, out / "labels.mrc.gz", "--verify")
    run("convert", of.tomogram, out / "inverted.mrc", "--invert", "--fill-nan")
    run("convert", of.particles, out / "a.csv", "--tomogram", of.tomogram)
    run("convert", of.tomogram, out / "coarse.mrc", "--resample", 28)
    coarse = read_header(out / "coarse.mrc")
    assert (coarse.origin, coarse.nstart) == (ORIGIN, (0, 0, 0))  # the start counts other voxels
    written = {name: placed(out / name) for name in ("a.mrc", "a.zarr", "labels.mrc.gz", "inverted.mrc")}
    return {**written, "picks": picks(out / "a.csv", of)}


def denoise(run, of: Inputs, out: Path):
    run("denoise", of.tomogram, "--out", out, "--device", "cpu", "--quiet")
    return placed(out / "denoised" / "TS.mrc")


def _scored(out: Path):
    found = scores.read(out / "scores" / "TS.zarr")
    assert (found.origin, found.nstart) == (ORIGIN, NSTART)
    return {"scores": np.asarray(found.data), "labels": placed(out / "labels" / "TS.mrc")}


def segment(run, of: Inputs, out: Path):
    run("segment", of.tomogram, "--model", of.model, "--out", out, "--device", "cpu", "--quiet")
    return _scored(out)


def find(run, of: Inputs, out: Path):
    run("find", of.tomogram, "--model", of.model, "--out", out, "--device", "cpu", "--quiet")
    assert (out / "report.html").exists()
    return {**_scored(out), "picks": picks(out / "particles" / "TS.star", of)}


def pick(run, of: Inputs, out: Path):
    dataset = of.phantoms / "dataset.yaml"
    run("pick", of.labels, "--out", out, "--dataset", dataset, "--mask", of.mask)
    return {"picks": picks(out / "particles" / "TS.star", of)}


def match(run, of: Inputs, out: Path):
    search = ("--angle", 60, "--threshold", 0.1, "--noise-control", 0, "--mask", of.mask)
    search += ("--search-voxel-size", "tomogram")  # the start of a coarser grid would count other voxels
    run("match", "ribosome-70s", of.tomogram, *search, "--out", out, "--device", "cpu", "--quiet")
    placed(out / "rotations" / "TS.mrc")
    return {"picks": picks(out / "particles" / "TS.star", of)}


def suggest(run, of: Inputs, out: Path):
    more = ("--count", 4, "--annotated", of.particles)
    run("suggest", of.tomogram, "--model", of.model, "--out", out, "--device", "cpu", "--quiet", *more)
    return {"picks": picks(out / "suggested.star", of)}


def extract(run, of: Inputs, out: Path):
    run("extract", of.particles, of.tomogram, "--labels", of.labels, "--box", 8, "--out", out / "s.zarr")
    cut = subtomograms.read(out / "s.zarr")
    assert (cut.origin, cut.nstart) == (ORIGIN, NSTART)
    return {"images": np.asarray(cut.images), "masks": np.asarray(cut.masks), "corners": cut.corners}


def evaluate_labels(run, of: Inputs, out: Path):
    truth = of.phantoms / "labels" / "phantom_03.mrc"
    run("evaluate", "labels", "--predictions", of.labels, "--truth", truth, "--json", out)
    return {"rows": json.loads(out.read_text())}


def evaluate_particles(run, of: Inputs, out: Path):
    lists = ("--picks", of.particles, "--truth", of.particles, "--radius", 50)
    run("evaluate", "particles", *lists, "--tomogram", of.tomogram, "--json", out / "a")
    places = picks(of.particles, of)
    write_particles(out / "shrec.csv", Particles.of(places, ["1S3X"] * len(places)))
    shrec = ("--picks", out / "shrec.csv", "--truth", out / "shrec.csv", "--rule", "shrec")
    run("evaluate", "particles", *shrec, "--occupancy", of.labels, "--json", out / "b")
    return {name: json.loads((out / name).read_text()) for name in "ab"}


def simulate(run, of: Inputs, out: Path):
    few = ("--species", "groel", "--scene.counts", "groel", 2, "--tilts.step", 15, "--device", "cpu")
    run("simulate", "--match", of.tomogram, "--out", out, "--quiet", *few)
    assert (out / "match.html").exists()
    return {"data": np.asarray(read_volume(out / "tomograms" / "sim_000.mrc").data)}


def fetch_dataset(run, of: Inputs, out: Path):
    """A folder of the layout of EMPIAR-10499, of which a dataset is made."""
    there = out / "there"
    (there / "tomograms").mkdir(parents=True)
    (there / "particles").mkdir()
    (there / "tomograms" / of.tomogram.name).symlink_to(of.tomogram)
    write_particles(there / "particles" / "TS.csv", Particles.of(picks(of.particles, of), "ribosome"))
    run("fetch", "dataset", "empiar10499", "--from", there, "--out", out / "mine", "--quiet")
    dataset = dataset_files.read(out / "mine")
    (entry,) = dataset.entries
    tomogram, (_, found) = (
        dataset_files.load_tomogram(entry, dataset),
        dataset_files.load_annotations(entry, dataset),
    )
    return {"data": np.asarray(tomogram.data), "picks": found.positions}


def filter_particles(run, of: Inputs, out: Path):
    run("particles", "filter", of.particles, "--tomogram", of.tomogram, "--out", out / "a.star")
    return {"picks": picks(out / "a.star", of)}


def count_particles(run, of: Inputs, out: Path):
    run("particles", "stats", of.particles, "--tomogram", of.tomogram, "--json", out / "a.json")
    return {"rows": json.loads((out / "a.json").read_text())}


def merge_particles(run, of: Inputs, out: Path):
    lists = (of.particles, of.particles, "--distance", 10)
    run("merge", *lists, "--tomogram", of.tomogram, "--out", out / "a.star")
    return {"picks": picks(out / "a.star", of)}


def report(run, of: Inputs, out: Path):
    run("pick", of.labels, "--out", out / "picks", "--dataset", of.phantoms / "dataset.yaml")
    more = ("--membrane", of.mask, "--json", out / "rows.json", "--quiet")
    run("report", out / "picks", "--out", out / "project.html", *more)
    (row,) = json.loads((out / "rows.json").read_text())
    return {
        "picks": row["picks"],
        "distance": row["to membrane (Å)"],
        "neighbor": row["nearest neighbor (Å)"],
    }


VERBS = {
    "doctor": doctor,
    "convert": convert,
    "denoise": denoise,
    "segment": segment,
    "find": find,
    "match": match,
    "pick": pick,
    "suggest": suggest,
    "extract": extract,
    "evaluate labels": evaluate_labels,
    "evaluate particles": evaluate_particles,
    "simulate": simulate,
    "fetch dataset": fetch_dataset,
    "particles filter": filter_particles,
    "particles stats": count_particles,
    "merge": merge_particles,
    "particles merge": merge_particles,
    "report": report,
}
NO_VOLUME = {"demo", "models", "fetch structure", "benchmark", "view", "explain", "rerun"}


def trainings() -> list[str]:
    return [name.removeprefix("train ") for name in _commands() if name.startswith("train ")]


def quick_and_slow(names, quick):
    """All names as parameters; `make test` runs the quick ones and `make test-slow` the others."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


WITHOUT_ORIGIN = (".tif", ".tiff", ".em", ".npy")
"""Formats that lose what `placed` compares; they have a test of their own."""


def test_no_format_is_forgotten():
    known = {f".{kind.split('.')[0].split('-')[0]}" for kind in FORMATS} | {*WITHOUT_ORIGIN}
    assert known == {*VOLUMES} - {*IMAGES}


@pytest.mark.parametrize("suffix", WITHOUT_ORIGIN)
def test_formats_without_an_origin(run, cli, tomogram, model, tmp_path, suffix):
    source, size = tmp_path / f"TS{suffix}", ("--voxel-size", read_header(tomogram).voxel_size)
    told = run("convert", tomogram, source, "--verify").out
    assert ("--voxel-size" in told) == (suffix == ".npy")
    asked = ("--model", model, "--device", "cpu", "--quiet")
    if suffix == ".npy":
        cli("find", source, *asked, "--out", tmp_path / "no").refused("TS.npy", "voxel size", "--voxel-size")
    run("find", source, *asked, "--out", tmp_path / "a", *size)
    run("find", tomogram, *asked, "--out", tmp_path / "b")
    lists = [tmp_path / "a" / "particles" / "TS.star", tmp_path / "b" / "particles" / "phantom_03.star"]
    volume = read_volume(tomogram)
    np.testing.assert_array_equal(*(read_particles(path, tomogram=volume).positions for path in lists))
    run("convert", source, tmp_path / "back.mrc", *size)
    np.testing.assert_array_equal(read_volume(tmp_path / "back.mrc").data, volume.data)


def test_folders_are_not_searched_for_arrays(cli, tmp_path):
    np.save(tmp_path / "anything.npy", np.zeros((4, 5, 6)))
    cli("doctor", tmp_path).refused("holds no tomogram")


def test_no_command_is_forgotten():
    """A new command is added to VERBS, or to NO_VOLUME where it takes none."""
    assert {name for name in _commands() if not name.startswith("train ")} == {*VERBS} | NO_VOLUME


@pytest.fixture
def run(cli):
    def call(*args):
        answer = cli(*args)
        assert answer.code == 0, answer.err
        return answer

    return call


@pytest.fixture(scope="module")
def expected() -> dict[str, object]:
    return {}


@pytest.mark.parametrize("kind", quick_and_slow([kind for kind in FORMATS if kind != "mrc"], QUICK_FORMATS))
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_every_format(verb, kind, run, inputs, expected, tmp_path):
    for name in ("plain", "other"):
        (tmp_path / name).mkdir()
    if verb not in expected:
        expected[verb] = VERBS[verb](run, inputs("mrc"), _place(verb, tmp_path / "plain"))
    _compare(VERBS[verb](run, inputs(kind), _place(verb, tmp_path / "other")), expected[verb])


def _place(verb: str, folder: Path) -> Path:
    return folder / "out.json" if verb in ("doctor", "evaluate labels") else folder


def _compare(found, wanted) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            _compare(found[key], wanted[key])
    elif isinstance(wanted, np.ndarray):
        assert wanted.size
        np.testing.assert_array_equal(found, wanted)
    else:
        assert found == wanted


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    config = PhantomConfig(shape=(20, 32, 32), count=4, snr=2.0)
    return write_phantoms(tmp_path_factory.mktemp("small") / "data", config, ("train",), 0)


@pytest.fixture(scope="session")
def of_all_formats(small, tmp_path_factory) -> Path:
    """A dataset with the same tomogram in every format."""
    folder = tmp_path_factory.mktemp("all")
    dataset = dataset_files.read(small)
    (like,) = dataset.entries
    entries = []
    for kind in FORMATS:
        paths = written(folder, kind, small, like.name)
        halves = {"even": paths["tomogram"], "odd": paths["tomogram"]}
        split = "val" if kind == "zarr-xyz" else "train"
        facts = {"name": kind, "contrast": "bright", "split": split, **paths, **halves}
        entries.append(like.model_copy(update=facts))
    dataset_files.write(folder, dataset.model_copy(update={"entries": tuple(entries)}))
    return folder


def test_a_dataset_is_the_same_in_every_format(of_all_formats, small):
    dataset = dataset_files.read(of_all_formats)
    (like,) = dataset_files.read(small).entries
    wanted = {what: np.asarray(volume.data) for what, volume in volumes(small, like.name).items()}
    picked = read_particles(like.particles, tomogram=read_volume(like.tomogram))
    for source in load_regions(dataset, dataset.entries):
        np.testing.assert_array_equal(np.asarray(source.data), wanted["tomogram"], source.name)
        np.testing.assert_array_equal(source.data[3:9, 5, ::2], wanted["tomogram"][3:9, 5, ::2])
        np.testing.assert_array_equal(source.labels, wanted["labels"], source.name)
        np.testing.assert_array_equal(source.annotated_mask, wanted["mask"] > 0, source.name)
        np.testing.assert_allclose(source.positions * 14.0, picked.positions)


HEATMAPS = ("distill", "semi-etpicker", "heatmap-mean-teacher", "heatmap-fixmatch", "pseudo-labels")


@pytest.mark.parametrize("strategy", quick_and_slow(trainings(), QUICK_TRAININGS))
def test_every_training_takes_every_format(strategy, cli, run, of_all_formats, model, tmp_path):
    heatmap = strategy in HEATMAPS
    network = {"model": "heatmap-unet" if heatmap else "voxresnet", "options": {"widths": [4, 8]}}
    if heatmap:
        network["options"]["blocks"] = [0, 0]
    (tmp_path / "net.yaml").write_text(json.dumps({"network": network}))
    quick = ("--steps", 1, "--batch", 2, "--patch", 16, "--warmup", 1, "--device", "cpu", "--quiet")
    usage = run("train", strategy, "--help").out
    data = ("--source", of_all_formats) if "--source" in usage else ("--data", of_all_formats)
    if "--target" in usage:
        dataset = dataset_files.read(of_all_formats)
        (tmp_path / "target").mkdir()
        for entry in dataset.entries:  # names of targets differ
            (tmp_path / "target" / f"{entry.name}-{entry.tomogram.name}").symlink_to(entry.tomogram)
        data += ("--target", tmp_path / "target")
    if "--teacher" in usage:
        data += ("--teacher", model)
    config = ("--config", tmp_path / "net.yaml")
    answer = cli("train", strategy, *data, "--out", tmp_path / "run", *config, *quick)
    nothing = (
        "neither the source model nor the adapted model predicts foreground" in answer.err
    )  # after one step
    assert answer.code == (1 if nothing else 0), answer.err
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_labels_in_a_store_are_evaluated_in_the_field(run, shared_data, tmp_path):
    folder = shared_data / "field_bugs" / "zarr-not-everywhere"
    for truth, found in (("lab.zarr", "lab.mrc"), ("lab.mrc", "lab.zarr")):
        run(
            "evaluate",
            "labels",
            "--truth",
            folder / truth,
            "--predictions",
            folder / found,
            "--json",
            tmp_path / "a",
        )
        rows = json.loads((tmp_path / "a").read_text())["rows"]
        assert rows
        assert all(row["dice"] == 1.0 for row in rows)
    for name in ("lab.zarr", "lab.mrc"):
        run("pick", folder / name, "--out", tmp_path / name)
    labels = read_volume(folder / "lab.mrc")
    both = [
        read_particles(tmp_path / name / "particles" / "lab.star", tomogram=labels).positions
        for name in ("lab.zarr", "lab.mrc")
    ]
    assert len(both[0])
    np.testing.assert_array_equal(*both)
    run("doctor", folder / "good.zarr")
    run("convert", folder / "five.zarr", tmp_path / "five.mrc")
    volume = read_volume(tmp_path / "five.mrc")
    assert (volume.shape, volume.voxel_size) == ((16, 32, 96), 10.0)
    np.testing.assert_array_equal(volume.data, read_volume(folder / "five.zarr").data[:])


def test_a_relative_scale_asks_for_the_voxel_size_in_the_field(cli, shared_data, tmp_path):
    folder = shared_data / "field_bugs" / "zarr-relative-scale"
    cli("convert", folder / "unitless.zarr", tmp_path / "o.mrc").refused("no unit", "--voxel-size")
    particles = ("convert", folder / "t.csv", tmp_path / "t.star", "--tomogram", folder / "unitless.zarr")
    cli(*particles).refused("no unit", "--voxel-size")
    assert cli("convert", folder / "unitless.zarr", tmp_path / "o.mrc", "--voxel-size", 10).code == 0
    assert "voxel size" in cli("doctor", folder / "unitless.zarr").out


def test_a_mask_in_signed_bytes_in_the_field(run, shared_data, tmp_path):
    folder = shared_data / "field_bugs" / "signed-byte-mask"
    for mask in ("mask_signed.mrc", "mask_plain.mrc"):
        out = tmp_path / mask
        more = ("--dataset", folder / "dataset.yaml", "--mask", folder / mask)
        run("pick", folder / "lab.mrc", "--out", out, *more)
        found = read_particles(out / "particles" / "lab.star", tomogram=read_volume(folder / "lab.mrc"))
        assert found.positions[:, 2].tolist() == [250.0]
    dataset = dataset_files.read(folder / "dataset.yaml")
    assert 0 < dataset_files.load_mask(dataset.entries[0]).mean() < 1


@pytest.mark.parametrize("name", ["stack.mrc", "ts.st"])
def test_stacks_in_the_field_are_no_tomograms(cli, shared_data, phantoms, model, tmp_path, name):
    stack = shared_data / "field_bugs" / "stacks" / name
    told = "3 volumes of 16 planes" if name == "stack.mrc" else "21 images"
    star, labels = phantoms / "particles" / "phantom_03.star", phantoms / "labels" / "phantom_03.mrc"
    out, table = ("--out", tmp_path / "out"), tmp_path / "t.csv"
    asked = ("--model", model, *out, "--device", "cpu", "--quiet")
    requests = {
        "doctor": (stack,),
        "convert": (stack, tmp_path / "o.mrc"),
        "denoise": (stack, *out),
        "match": ("ribosome-70s", stack, *out, "--device", "cpu", "--quiet"),
        "segment": (stack, *asked),
        "find": (stack, *asked),
        "suggest": (stack, *asked),
        "pick": (stack, *out),
        "extract": (star, stack, "--box", 8, "--out", tmp_path / "s.zarr"),
        "evaluate labels": ("--truth", labels, "--predictions", stack),
        "evaluate particles": ("--truth", star, "--picks", star, "--radius", 50, "--tomogram", stack),
        "simulate": ("--match", stack, *out),
        "particles filter": (star, "--tomogram", stack, "--out", tmp_path / "f.star"),
        "particles stats": (star, "--tomogram", stack),
        "particles merge": (star, star, "--distance", 10, "--tomogram", stack, "--out", tmp_path / "m.star"),
        "merge": (star, star, "--distance", 10, "--tomogram", stack, "--out", tmp_path / "m.star"),
    }
    assert {*requests} == {*VERBS} - {"fetch dataset", "report"}
    for verb, request in requests.items():
        cli(*verb.split(), *request).refused(name, told)
    cli("convert", star, table, "--tomogram", stack).refused(name, told)
    adapted = (
        "--source",
        phantoms,
        "--target",
        stack,
        "--out",
        tmp_path / "run",
        "--steps",
        1,
        "--device",
        "cpu",
    )
    cli("train", "vox-uda", *adapted).refused(name, told)
    species = [{"name": "a", "label": 1, "radius": 40}]
    facts = {"voxel_size": 10, "species": species, "entries": [{"name": "a", "tomogram": str(stack)}]}
    (tmp_path / "dataset.yaml").write_text(json.dumps(facts))
    cli("train", "supervised", "--data", tmp_path, "--out", tmp_path / "run").refused(name, told)


def test_bytes_that_were_taken_for_signed_ones(cli, run, shared_data, make_mrc, model, tmp_path):
    u8 = shared_data / "field_bugs" / "byte-no-statistics" / "u8.mrc"
    told = " ".join(run("doctor", u8).out.split())
    assert "particles look" not in told  # the contrast would be that of the wrong numbers
    assert "bytes look wrapped" in told
    assert "100 to 200" in told
    assert "--unsigned-bytes" in told
    run("convert", u8, tmp_path / "mended.mrc", "--unsigned-bytes", "--verify")
    mended = read_volume(tmp_path / "mended.mrc")
    assert (mended.data.min(), mended.data.max()) == (100, 200)
    assert "wrapped" not in run("doctor", tmp_path / "mended.mrc").out
    cli("convert", tmp_path / "mended.mrc", tmp_path / "b.mrc", "--unsigned-bytes").refused("no signed bytes")

    gray = np.clip(np.random.default_rng(0).normal(120, 12, (32, 64, 64)), 0, 255).astype(np.uint8)
    tomogram, out = make_mrc("gray.mrc", gray.view(np.int8)), ("--out", tmp_path / "out")
    asked = ("--model", model, *out, "--device", "cpu", "--quiet")
    for verb in ("segment", "find", "suggest"):
        assert "bytes look wrapped" in run(verb, tomogram, *asked).err, verb
    cli("denoise", tomogram, *out).refused("wrapped", "--unsigned-bytes")
    cli("simulate", "--match", tomogram, *out).refused("wrapped", "--unsigned-bytes")


def test_bytes_that_are_signed(run, shared_data):
    real = shared_data / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz"
    assert read_header(real).dtype == np.int8
    assert "wrapped" not in run("doctor", real).out
