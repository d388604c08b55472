import json
from pathlib import Path

import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import VOLUMES, read_labels, read_particles, read_volume, subtomograms, write_volume
from cryovox.formats import dataset as dataset_files
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.phantom import wedge_filter
from cryovox.simulate.presets import PRESETS
from cryovox.simulate.scene import SceneConfig
from cryovox.workflows.simulation.dataset import simulate_dataset, simulate_subtomograms
from cryovox.workflows.simulation.match import match_config, measure_tomogram
from cryovox.workflows.simulation.templates import MAPS, known_names, templates
from cryovox.workflows.simulation.tomogram import Keep

SMALL = PRESETS["toy"].model_copy(
    update={
        "species": ("proteasome-20s", "1S3X"),
        "scene": SceneConfig(shape=(24, 48, 48), voxel_size=14.0, counts={"proteasome-20s": 2, "1S3X": 4}),
        "tilts": PRESETS["toy"].tilts.model_copy(update={"step": 10.0}),
    }
)


def make(out: Path, config: SimulationConfig = SMALL, **options: object) -> Path:
    return simulate_dataset(out, config, device="cpu", **options)[0]  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    """All files but those that hold times; MRC headers hold a label with the date."""
    return {
        str(p.relative_to(folder)): np.asarray(read_volume(p).data).tobytes()
        if p.suffix == ".mrc"
        else p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "manifest.json" and p.suffix != ".lock"
    }


def test_a_dataset_holds_what_it_says(tmp_path: Path) -> None:
    dataset = dataset_files.read(make(tmp_path / "a", keep=Keep(clean=True)))
    assert [s.name for s in dataset.species] == ["proteasome-20s", "1S3X"]
    assert dataset.species[1].structure == "built-in hsc70-fragment"
    (entry,) = dataset.entries
    assert entry.contrast == "dark"
    assert entry.tilt_range == (-60, 60)
    volume = read_volume(entry.tomogram)
    assert volume.voxel_size == 14
    labels = read_labels(entry.labels, dataset.species)
    particles = read_particles(entry.particles, tomogram=volume)
    assert len(particles) == 6
    assert particles.rotations is not None
    for position, name in zip(particles.positions, particles.species, strict=True):
        nearby = np.argwhere(labels.data == {"proteasome-20s": 1, "1S3X": 2}[name]) * 14.0
        assert np.linalg.norm(nearby - position, axis=1).min() < 80
    clean = np.asarray(read_volume(tmp_path / "a" / "clean" / "sim_000.mrc").data)
    inside, outside = clean[labels.data > 0].mean(), clean[labels.data == 0].mean()
    assert inside < outside  # particles are dark
    truth = json.loads((tmp_path / "a" / "truth" / "sim_000.json").read_text())
    assert truth["scene"]["placed"] == {"proteasome-20s": 2, "1S3X": 4}
    assert len(truth["microscope"]["tilts"]["defocus"]) == 13


def test_the_same_seed_gives_the_same_bytes_whoever_works(tmp_path: Path) -> None:
    make(tmp_path / "a", count=2, seed=3)
    make(tmp_path / "b", count=2, seed=3, workers=2)
    make(tmp_path / "c", count=2, seed=4)
    one, other, third = (content(tmp_path / name) for name in "abc")
    assert one == other
    assert one["tomograms/sim_000.mrc"] != third["tomograms/sim_000.mrc"]
    assert one["tomograms/sim_000.mrc"] != one["tomograms/sim_001.mrc"]


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out = tmp_path / "a"
    make(out, count=2)
    kept, lost = out / "tomograms" / "sim_000.mrc", out / "labels" / "sim_001.mrc"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    make(out, count=2)
    assert kept.stat().st_mtime_ns == before
    assert lost.exists()
    make(out, count=2, overwrite=True)
    assert kept.stat().st_mtime_ns != before


def test_a_requested_ratio_of_signal_to_noise_is_measured_in_the_tomogram(tmp_path: Path) -> None:
    make(tmp_path, SMALL.model_copy(update={"snr": 0.2}), keep=Keep(clean=True))
    noisy, clean = (
        np.asarray(read_volume(tmp_path / k / "sim_000.mrc").data, float) for k in ("tomograms", "clean")
    )
    assert clean.var() / (noisy - clean).var() == pytest.approx(0.2, rel=0.05)


def test_halves_have_independent_noise(tmp_path: Path) -> None:
    config = SMALL.model_copy(
        update={"halves": "frames", "detector": SMALL.detector.model_copy(update={"frames": True})}
    )
    (entry,) = dataset_files.read(make(tmp_path, config, keep=Keep(clean=True))).entries
    even, odd = (np.asarray(read_volume(p).data, float) for p in (entry.even, entry.odd))
    clean = np.asarray(read_volume(tmp_path / "clean" / "sim_000.mrc").data, float)
    whole = np.asarray(read_volume(entry.tomogram).data, float)
    assert np.corrcoef(((even + odd) / 2).ravel(), whole.ravel())[0, 1] > 0.999
    assert abs(np.corrcoef((even - clean).ravel(), (odd - clean).ravel())[0, 1]) < 0.05


def test_structures_of_the_user_come_first(tmp_path: Path, shared_data: Path) -> None:
    config = SMALL.model_copy(
        update={
            "species": ("1s3x", "proteasome-20s"),
            "scene": SMALL.scene.model_copy(update={"counts": {"1s3x": 2}}),
        }
    )
    dataset = dataset_files.read(make(tmp_path, config, structures=shared_data / "structures"))
    assert dataset.species[0].structure == "1s3x.pdb.gz"
    assert dataset.species[1].structure == "built-in proteasome-20s"


def test_a_missing_folder_of_structures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a folder"):
        make(tmp_path / "a", structures=tmp_path / "nowhere")


def test_matching_takes_voxel_size_slab_and_wedge_from_the_tomogram(
    tmp_path: Path, shared_data: Path
) -> None:
    like = measure_tomogram(shared_data / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz")
    config = match_config(PRESETS["toy"], like)
    assert config.scene.voxel_size == pytest.approx(31.36)
    assert config.scene.shape == (128, 256, 128)
    assert config.scene.slab is not None
    assert config.scene.slab < 128 * 31.36
    assert sum(config.scene.counts.values()) > 10 * sum(PRESETS["toy"].scene.counts.values())
    with pytest.raises(RequestError, match="half-tomograms"):
        match_config(PRESETS["toy"].model_copy(update={"halves": "tilts"}), like)


@pytest.mark.parametrize("turns", [0, 1])
def test_a_tomogram_tilted_about_x_is_measured_as_if_tilted_about_y(tmp_path: Path, turns: int) -> None:
    noise = np.random.default_rng(0).standard_normal((48, 64, 80), dtype=np.float32)
    data = np.rot90(wedge_filter(noise, 55), turns, axes=(1, 2))
    write_volume(tmp_path / "a.mrc", Volume(np.ascontiguousarray(data), 20.0))
    like = measure_tomogram(tmp_path / "a.mrc")
    assert like.shape == (48, 64, 80)
    assert max(map(abs, like.tilts)) == pytest.approx(55, abs=5)


def test_a_set_of_subtomograms(tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    assert simulate_subtomograms(out, SubtomogramConfig(), species=("1S3X", "groel"), count=4) == 4
    subvolumes = subtomograms.read(out)
    assert subvolumes.images.shape == (4, 32, 32, 32)
    assert [s.name for s in subvolumes.species] == ["1S3X", "groel"]
    assert set(np.unique(np.asarray(subvolumes.masks[2]))) == {0, 2}


def test_presets_are_what_they_imitate() -> None:
    shrec = PRESETS["shrec2021"]
    assert shrec.scene.shape == (512, 512, 512)
    low = (shrec.scene.slab_center - shrec.scene.slab / 2) / shrec.scene.voxel_size
    high = (shrec.scene.slab_center + shrec.scene.slab / 2) / shrec.scene.voxel_size
    assert (low, high) == (164.5, 344.5)  # the outer faces of slices 165 to 344
    assert len(shrec.species) == 13
    assert PRESETS["czii-phantom"].scene.shape == (184, 630, 630)
    cell = PRESETS["cell"].scene
    assert min(cell.sheets.count, cell.vesicles.count) > 0
    assert cell.sheets.protein_mass == cell.vesicles.protein_mass == 1


def test_a_matched_simulation_is_written_with_its_page(tmp_path: Path) -> None:
    scene = SceneConfig(shape=(32, 48, 48), voxel_size=14.0, counts={"groel": 4})
    config = SMALL.model_copy(update={"species": ("groel",), "scene": scene})
    (target,) = dataset_files.read(make(tmp_path / "a", config)).entries
    (entry,) = dataset_files.read(make(tmp_path / "b", config, match=target.tomogram, seed=1)).entries
    real, alike = (np.asarray(read_volume(e.tomogram).data, float) for e in (target, entry))
    assert alike.mean() == pytest.approx(real.mean(), abs=0.05 * real.std())
    # planes beyond the matter of the scene have no counterpart in this target, which is full
    assert alike.std() == pytest.approx(real.std(), rel=0.1)
    assert not np.allclose(alike, real)
    assert "<img" in (tmp_path / "b" / "match.html").read_text()


def test_maps_serve_where_there_is_no_structure(tmp_path: Path, shared_data: Path) -> None:
    maps = shared_data / "maps_10A_shrec21"
    whole, half = templates(("4CR2", "1BXN"), 14.0, maps)
    assert (whole.source, whole.name) == ("4cr2.mrc.gz", "4CR2")
    assert "doubt" not in whole.facts
    assert "half" in half.facts["doubt"]
    assert known_names(maps)[0] == "1bxn"
    with pytest.raises(RequestError, match=r"4v94|4V94"):
        templates(("4V94",), 14.0, maps)
    with pytest.raises(RequestError, match="no structures"):
        known_names(tmp_path)
    config = SMALL.model_copy(
        update={"species": ("1BXN",), "scene": SMALL.scene.model_copy(update={"counts": {"1BXN": 1}})}
    )
    heard: list[str] = []
    make(
        tmp_path / "a",
        config,
        structures=maps,
        on_progress=lambda name, fraction, note="": heard.append(note),
    )
    assert any("half" in note for note in heard)


def test_every_ending_of_a_map_has_a_reader(tmp_path: Path) -> None:
    assert [ending for ending in MAPS if ending not in VOLUMES] == []
    (tmp_path / "GroEL.em").write_bytes(b"\x06\x00\x00\x05" + bytes(508))
    with pytest.raises(RequestError, match=r"(?s)GroEL\.em.*not read.*convert it to MRC"):
        templates(("groel",), 14.0, tmp_path)


def test_a_batch_of_another_name_is_added_and_nothing_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "a"
    make(out, count=2)
    before = content(out)
    other = SMALL.model_copy(update={"snr": 0.5})
    with pytest.raises(RequestError, match="other settings"):
        make(out, other)
    with pytest.raises(RequestError, match="other settings"):
        make(out, seed=1)
    assert content(out) == before
    make(out, other, name="low")
    names = [e.name for e in dataset_files.read(out).entries]
    assert names == ["sim_000", "sim_001", "low_000"]
    make(out, count=1)  # goes on; the second one is still there
    assert [e.name for e in dataset_files.read(out).entries] == names
    after = content(out)
    assert {n: after[n] for n in before if n != "dataset.yaml"} == {
        n: b for n, b in before.items() if n != "dataset.yaml"
    }
    make(out, other, overwrite=True)  # a shorter batch takes the place of all of the first
    assert [e.name for e in dataset_files.read(out).entries] == ["sim_000", "low_000"]
    assert not (out / "tomograms" / "sim_001.mrc").exists()


def test_a_folder_with_other_tomograms_wants_a_name(tmp_path: Path) -> None:
    make(tmp_path, name="first")
    with pytest.raises(RequestError, match=r"first_000.*\n.*--name"):
        make(tmp_path)
    species = {"species": ("groel",), "scene": SMALL.scene.model_copy(update={"counts": {"groel": 1}})}
    with pytest.raises(RequestError, match="proteasome-20s"):
        make(tmp_path, SMALL.model_copy(update=species), name="second")
    (tmp_path / "b" / "tomograms").mkdir(parents=True)
    (tmp_path / "b" / "tomograms" / "sim_000.mrc").write_text("of somebody else")
    with pytest.raises(RequestError, match="not simulated here"):
        make(tmp_path / "b")


def test_by_default_only_what_training_reads_is_written(tmp_path: Path) -> None:
    make(tmp_path / "a")
    assert {p.name for p in (tmp_path / "a").iterdir() if p.is_dir()} == {
        ".locks", "labels", "particles", "tomograms", "truth"
    }  # fmt: skip
    make(tmp_path / "b", keep=Keep(clean=True, instances=True, series=True))
    assert {"clean", "instances", "series"} <= {p.name for p in (tmp_path / "b").iterdir()}


def test_a_set_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    out = tmp_path / "set.zarr"
    simulate_subtomograms(out, SubtomogramConfig(), species=("groel",), count=1)
    with pytest.raises(RequestError, match="there already"):
        simulate_subtomograms(out, SubtomogramConfig(), species=("groel",), count=2)
    assert len(subtomograms.read(out)) == 1
    simulate_subtomograms(out, SubtomogramConfig(), species=("groel",), count=2, overwrite=True)
    assert len(subtomograms.read(out)) == 2
