"""Template matching of simulated tomograms: positions and poses are recovered."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, scores, write_particles, write_volume
from cryovox.formats.dataset import load_annotations
from cryovox.formats.dataset import read as read_dataset
from cryovox.simulate.particles import library
from cryovox.simulate.particles.beads import point_group
from cryovox.simulate.particles.rotate import add_box, rotate
from cryovox.workflows.match import match
from cryovox.workflows.matching.background import erased
from cryovox.workflows.matching.config import MatchConfig
from cryovox.workflows.matching.search import NO_DECOY, top_hat

VOXEL = 25.0
STEP = 30.0
PLACES = np.array([[12, 14, 15], [20, 34, 17], [13, 25, 42]])


def simulate(path, species, noise=0.0, sign=-1, voxel=VOXEL):
    """A tomogram of three particles with a missing wedge of 30 degrees on each side; returns their poses."""
    shape, template = (32, 48, 56), library.build_template(species, voxel)
    rotations = Rotation.random(len(PLACES), random_state=5).as_matrix()
    volume = np.zeros(shape, np.float32)
    for place, rotation in zip(PLACES, rotations, strict=True):
        density, _ = rotate(template, rotation)
        add_box(volume, density, place - density.shape[0] // 2)
    kz, kx = np.fft.fftfreq(shape[0])[:, None, None], np.fft.rfftfreq(shape[2])
    spectrum = np.fft.rfftn(volume) * (np.abs(kz) <= np.tan(np.pi / 3) * kx + 1e-9)
    volume = sign * np.fft.irfftn(spectrum, s=shape, axes=(0, 1, 2))
    volume += noise * volume.std() * np.random.default_rng(0).standard_normal(shape)
    write_volume(path, Volume(volume.astype(np.float32), voxel))
    return rotations


def pose_error(rotation, true, group):
    """Angle in degrees between two poses, modulo symmetry."""
    traces = [np.trace((rotation @ turn).T @ true) for turn in point_group(group)]
    return np.degrees(np.arccos(np.clip((max(traces) - 1) / 2, -1, 1)))


def search(tomogram, out, species, **settings):
    config = MatchConfig(**{"angle": STEP, "contrast": "dark", "threshold": 0.3} | settings)
    done, failed = match(Path(species), [tomogram], out, config, device="cpu")
    assert not failed
    (entry,) = done.values()
    volume = read_volume(tomogram)
    return entry, read_particles(out / entry["outputs"]["particles"], tomogram=volume)


@pytest.mark.parametrize("species", ["ribosome-80s", "fatty-acid-synthase", "vlp"])
def test_positions_and_poses_are_recovered(tmp_path, species):
    voxel = {"vlp": 30.0}.get(species, VOXEL)
    true = simulate(tmp_path / "tomo.mrc", species, voxel=voxel)
    group = library.SPECIES[species].group
    _, picks = search(
        tmp_path / "tomo.mrc", tmp_path / "out", species, symmetry=group, noise_control=0, max_count=3
    )
    for place, rotation in zip(PLACES * voxel, true, strict=True):
        distance = np.linalg.norm(picks.positions - place, axis=1)
        assert distance.min() < 0.3 * voxel
        assert pose_error(picks.rotations[distance.argmin()], rotation, group) <= STEP / 2


def test_results_are_complete_and_kept(tmp_path):
    simulate(tmp_path / "tomo.mrc", "ribosome-80s", noise=1.0)
    as_searched = {"threshold": None, "refine": False, "search_voxel_size": "tomogram"}
    entry, picks = search(tmp_path / "tomo.mrc", tmp_path / "out", "ribosome-80s", **as_searched)
    stored = scores.read(tmp_path / "out" / entry["outputs"]["scores"])
    index = np.rint(picks.positions / VOXEL).astype(int)
    assert np.allclose(np.asarray(stored.data[0])[tuple(index.T)], picks.scores, atol=1e-4)
    best = np.asarray(read_volume(tmp_path / "out" / entry["outputs"]["rotations"]).data)[tuple(index.T)]
    table = np.loadtxt(tmp_path / "out" / entry["outputs"]["angles"], delimiter=",", skiprows=1)
    poses = Rotation.from_euler("ZYZ", table[best.astype(int), 1:], degrees=True).inv().as_matrix()
    assert np.allclose(poses, picks.rotations, atol=1e-4)
    assert entry["best"] > entry["noise"]["best"] == pytest.approx(entry["threshold"])
    assert "in noise of the same spectrum" in (tmp_path / "out" / "report.html").read_text()
    again, _ = search(
        tmp_path / "tomo.mrc", tmp_path / "out", "ribosome-80s", block_voxels=1 << 20, **as_searched
    )
    assert again == entry
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["match"]["entries"]["tomo"] == entry
    dataset = read_dataset(tmp_path / "out" / "matches.yaml")
    _, particles = load_annotations(dataset.entries[0], dataset)
    assert np.allclose(particles.positions, picks.positions, atol=1e-3)
    assert not dataset.entries[0].is_exhaustive("ribosome-80s")


def test_contrast_decides_what_is_found(tmp_path):
    simulate(tmp_path / "tomo.mrc", "ribosome-80s", sign=1)
    settings = {"noise_control": 0, "angle": 60.0, "search_voxel_size": "tomogram"}
    bright, _ = search(tmp_path / "tomo.mrc", tmp_path / "a", "ribosome-80s", contrast="bright", **settings)
    dark, _ = search(tmp_path / "tomo.mrc", tmp_path / "b", "ribosome-80s", contrast="dark", **settings)
    assert bright["best"] > 0.7 > dark["best"]


def test_filters_of_the_tomogram_are_those_of_the_template(tmp_path):
    """A noise-free particle keeps its high score whatever the filter."""
    simulate(tmp_path / "tomo.mrc", "ribosome-80s")
    for number, filters in enumerate(({"low_pass": 120.0}, {"high_pass": 600.0}, {"whiten": True})):
        entry, picks = search(
            tmp_path / "tomo.mrc",
            tmp_path / str(number),
            "ribosome-80s",
            noise_control=0,
            max_count=3,
            **filters,
        )
        assert entry["best"] > 0.5
        distance = np.linalg.norm(picks.positions[:, None] - PLACES * VOXEL, axis=-1).min(axis=0)
        assert (distance < VOXEL).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"radius": 20.0}, "radius of 0.8 voxels"), ({"radius": 900.0}, "larger")],
)
def test_templates_that_do_not_suit_are_refused(tmp_path, settings, words):
    simulate(tmp_path / "tomo.mrc", "ribosome-80s")
    with pytest.raises(RequestError, match=words):
        search(tmp_path / "tomo.mrc", tmp_path / "out", "ribosome-80s", **settings)
    assert not (tmp_path / "out").exists()


def test_a_list_gets_poses_and_keeps_its_columns(tmp_path):
    """As accurate as the whole search, from positions that are a voxel off; the list names two tomograms."""
    true = simulate(tmp_path / "tomo.mrc", "fatty-acid-synthase", noise=0.5)
    volume = read_volume(tmp_path / "tomo.mrc")
    rough = (PLACES + np.array([[1, 0, -1], [0, -1, 1], [-1, 1, 0]])) * VOXEL
    positions = np.concatenate([rough, rough[:1]])
    names = ["tomo"] * 3 + ["other"]
    picks = Particles.of(positions, "fas", [0.9, 0.8, 0.7, 0.6], tomograms=names)
    picks = replace(picks, extra={"rlnGroupNumber": np.array([7, 8, 9, 10])})
    frames = {"tomo": volume, "other": volume}
    write_particles(tmp_path / "picks.star", picks, tomogram=frames)
    config = MatchConfig(angle=20.0, contrast="dark", symmetry="D3")
    done, _ = match(
        Path("fatty-acid-synthase"), [tmp_path / "tomo.mrc"], tmp_path / "out", config,
        at=tmp_path / "picks.star", device="cpu",
    )  # fmt: skip
    posed = read_particles(tmp_path / "out" / done["tomo"]["outputs"]["particles"], tomogram=volume)
    assert posed.species.tolist() == ["fas"] * 3
    assert posed.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert posed.extra["rlnGroupNumber"].tolist() == ["7", "8", "9"]
    assert (posed.extra["rlnLCCmax"].astype(float) > 0.5).all()
    assert np.linalg.norm(posed.positions - PLACES * VOXEL, axis=1).max() < 0.5 * VOXEL
    assert max(pose_error(r, t, "D3") for r, t in zip(posed.rotations, true, strict=True)) <= 10


def test_lists_that_do_not_fit_are_refused(tmp_path):
    simulate(tmp_path / "tomo.mrc", "ribosome-80s")
    (tmp_path / "picks.csv").write_text("x,y,z\n400,400,40000\n")
    (tmp_path / "lists").mkdir()
    for at, words in [
        ("none.star", "no such file"),
        ("picks.csv", "outside"),
        ("lists", "no list of 'tomo'"),
    ]:
        with pytest.raises(RequestError, match=words):
            match(
                Path("ribosome-80s"),
                [tmp_path / "tomo.mrc"],
                tmp_path / "out",
                at=tmp_path / at,
                device="cpu",
            )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("decoy", ["none", "mirror"])
def test_as_many_false_positives_are_picked_as_are_asked_for(tmp_path, decoy):
    """In colored noise with a missing wedge and without particles."""
    counts = []
    for seed in range(4):
        shape = (40, 52, 66)
        kz, ky, kx = np.fft.fftfreq(40)[:, None, None], np.fft.fftfreq(52)[:, None], np.fft.rfftfreq(66)
        spectrum = np.fft.rfftn(np.random.default_rng(seed).standard_normal(shape))
        spectrum *= (np.abs(kz) <= 1.7 * kx + 1e-9) / (0.2 + np.sqrt(kz**2 + ky**2 + kx**2))
        noise = np.fft.irfftn(spectrum, s=shape, axes=(0, 1, 2)).astype(np.float32)
        write_volume(tmp_path / f"{seed}.mrc", Volume(noise, 45.0))
        _, picks = search(
            tmp_path / f"{seed}.mrc", tmp_path / f"out{seed}", "vlp", symmetry="I", threshold=None,
            false_positives=10.0, decoy=decoy, noise_control=0.5, refine=False,
        )  # fmt: skip
        expected = picks.extra["cryovoxFalsePositives"].astype(float)
        assert expected.max() <= 10.5
        assert (np.diff(expected[np.argsort(picks.scores)]) <= 0).all()
        assert picks.extra["cryovoxFalseDiscoveryRate"].astype(float).max() > 0.3
        counts.append(len(picks))
    assert 10 / 1.5 < np.mean(counts) < 10 * 1.5


def test_true_particles_have_low_false_discovery_rates(tmp_path):
    """At a rate of 0.3, three particles come with one false pick on average; side lobes are left out."""
    simulate(tmp_path / "tomo.mrc", "fatty-acid-synthase", noise=1.0)
    settings = {
        "symmetry": "D3", "threshold": None, "decoy": "mirror", "noise_control": 1.0, "refine": False
    }  # fmt: skip
    for fdr in (0.05, 0.3):
        entry, picks = search(
            tmp_path / "tomo.mrc", tmp_path / str(fdr), "fatty-acid-synthase", fdr=fdr, **settings
        )
        distance = np.linalg.norm(picks.positions[:, None] - PLACES * VOXEL, axis=-1)
        assert (distance.min(axis=0) < VOXEL).all()
        assert len(picks) <= 3 + (fdr > 0.1)
        assert picks.extra["cryovoxFalseDiscoveryRate"].astype(float)[:3].max() < 0.001
        assert entry["decoy"]["share"] == 1


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        ({"threshold": None, "fdr": 0.5}, True),
        ({"threshold": None, "fdr": 0.5, "decoy": "none"}, False),
        ({}, False),
    ],
)
def test_a_note_says_that_a_symmetric_template_has_no_decoy(tmp_path, settings, noted):
    simulate(tmp_path / "tomo.mrc", "vlp", voxel=40.0)
    settings = {"angle": 60.0, "symmetry": "I", "refine": False} | settings
    entry, _ = search(tmp_path / "tomo.mrc", tmp_path / "out", "vlp", **settings)
    assert entry["decoy"] is None
    assert (NO_DECOY in entry["notes"]) == noted


def test_erased_particles_leave_the_power_of_the_rest():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((30, 34, 38)).astype(np.float32)
    data = noise + 2
    data[10:19, 12:21, 14:23] += 9
    data[:3, :3, :3] += 9
    rest = erased(data, np.array([[14, 16, 18], [0, 0, 0], [90, 0, 0]]), 8.0)
    assert abs(rest.mean()) < 0.05
    assert rest.std() == pytest.approx(1, rel=0.05)
    assert not rest[10:19, 12:21, 14:23].any()
    assert np.corrcoef(rest[20:].ravel(), noise[20:].ravel())[0, 1] > 0.9
    assert np.array_equal(erased(data, np.array([[15, 17, 19]]), 90.0), data)


def test_the_hand_that_fits_is_kept_with_a_note(tmp_path):
    simulate(tmp_path / "tomo.mrc", "ribosome-80s")
    volume = read_volume(tmp_path / "tomo.mrc")
    write_volume(tmp_path / "other.mrc", Volume(np.ascontiguousarray(volume.data[:, :, ::-1]), VOXEL))
    quick = {"hand": "both", "noise_control": 0, "max_count": 3, "angle": 60.0, "refine": False}
    given, _ = search(tmp_path / "tomo.mrc", tmp_path / "a", "ribosome-80s", **quick)
    other, _ = search(tmp_path / "other.mrc", tmp_path / "b", "ribosome-80s", **quick)
    assert "template as given scores higher" in given["notes"][0]
    assert "mirrored template scores higher" in other["notes"][0]


def test_the_given_hand_is_kept_where_both_score_alike(tmp_path):
    simulate(tmp_path / "tomo.mrc", "vlp", voxel=40.0)
    quick = {"hand": "both", "noise_control": 0, "angle": 60.0, "symmetry": "I", "refine": False}
    entry, _ = search(tmp_path / "tomo.mrc", tmp_path / "out", "vlp", **quick)
    assert "both hands score alike" in entry["notes"][0]
    assert "template as given is kept" in entry["notes"][0]


def test_broad_maxima_are_removed_by_the_top_hat():
    """A membrane scores along a ridge of three voxels, higher than a particle beside it."""
    z, y, x = np.indices((15, 19, 23)) - np.array([4, 9, 11])[:, None, None, None]
    scores = 0.6 * np.exp(-0.5 * (z / 1.5) ** 2)
    scores += 0.5 * np.exp(-0.5 * ((z - 6) ** 2 + y**2 + x**2))
    assert np.unravel_index(scores.argmax(), scores.shape)[0] == 4
    filtered = top_hat(scores.astype(np.float32))
    assert np.unravel_index(filtered.argmax(), scores.shape) == (10, 9, 11)
    assert filtered[4].max() < 0.5 * filtered.max()
