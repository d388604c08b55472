"""Membrane proteins: normals of a membrane, and a search over the rotations that it allows."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.core.intensity import Normalization
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, write_volume
from cryovox.inference.matching import match
from cryovox.inference.membranes import AxisCone, membrane_cone
from cryovox.inference.search_template import SearchTemplate
from cryovox.inference.template_filters import filter_box, missing_wedge
from cryovox.simulate.particles.rotate import add_box, rotate
from cryovox.workflows.match import match as match_files
from cryovox.workflows.matching.config import MatchConfig
from cryovox.workflows.simulation.templates import read_template

AS_IS = Normalization(0.0, 1.0)
VOXEL = 20.0


def shell(shape, center, radius, half=1.0):
    z, y, x = np.indices(shape)
    offset = np.stack([x, y, z]) - np.reshape(center, (3, 1, 1, 1))
    distance = np.linalg.norm(offset, axis=0)
    return np.abs(distance - radius) <= half, offset / np.maximum(distance, 1e-6), distance


def test_normals_of_a_vesicle_point_from_its_center():
    membrane, radial, distance = shell((36, 40, 44), (21, 19, 17), 12.0)
    cone = membrane_cone(membrane, 3.0, 25.0)
    assert (cone.inside == (np.abs(distance - 12) <= 4)).mean() > 0.97
    cosines = np.abs((cone.normals * radial).sum(axis=0))[cone.inside]
    angles = np.degrees(np.arccos(np.clip(cosines, 0, 1)))
    assert np.quantile(angles, 0.99) < 8
    assert angles.max() < 12
    assert np.allclose(np.linalg.norm(cone.normals, axis=0)[cone.inside], 1, atol=1e-5)
    assert cone.cosine == pytest.approx(np.cos(np.deg2rad(25)))


def test_the_search_keeps_the_best_allowed_rotation_of_each_voxel():
    shape = (13, 17, 22)
    rng = np.random.default_rng(0)
    image = rng.standard_normal(shape).astype(np.float32)
    density = np.random.default_rng(1).standard_normal((15, 15, 15)).astype(np.float32)
    search = SearchTemplate(density, 2.0, 3.2, missing_wedge(filter_box(3.2), (-60, 60)))
    rotations = Rotation.random(12, random_state=0).as_matrix()
    normals = rng.standard_normal((3, *shape)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=0)
    normals[:, :, :5] = 0
    cone = AxisCone(normals, 0.7)
    each = np.stack([match(image, AS_IS, search, rotation[None])[0] for rotation in rotations])
    allowed = np.abs(np.einsum("ri,izyx->rzyx", rotations[:, :, 2], normals)) >= 0.7
    expected = np.where(allowed, each, -np.inf)
    scores, best = match(image, AS_IS, search, rotations, cone=cone, block_voxels=4096)
    somewhere = allowed.any(axis=0)
    assert 0.5 < somewhere[:, 5:].mean() < 1
    assert np.allclose(scores[somewhere], expected.max(axis=0)[somewhere], atol=1e-5)
    assert (best[somewhere] == expected.argmax(axis=0)[somewhere]).mean() > 0.999
    assert not scores[~somewhere].any()


def membrane_protein(path):
    """A bent rod of 160 Å whose main axis is z, with a knob at one end."""
    z, y, x = np.indices((25, 25, 25)) - 12
    density = np.exp(-((x / 2.5) ** 2 + (y / 2.5) ** 2 + (z / 7.0) ** 4))
    density += 1.5 * np.exp(-((x - 3) ** 2 + (y / 2.0) ** 2 + (z - 5) ** 2) / 6)
    write_volume(path, Volume(density.astype(np.float32), VOXEL / 2))


def tomogram(folder, noise):
    """Five proteins in a tilted sheet, some upside down; returns their places and the normal (x, y, z)."""
    shape = (36, 44, 52)
    normal = Rotation.from_euler("YX", [35, 20], degrees=True).as_matrix() @ [0, 0, 1.0]
    z, y, x = np.indices(shape)
    heights = (x - 26) * normal[0] + (y - 22) * normal[1] + (z - 18) * normal[2]
    membrane = np.abs(heights) <= 1
    volume = 0.4 * np.exp(-((heights / 1.2) ** 2)).astype(np.float32)
    membrane_protein(folder / "protein.mrc")
    template = read_template(folder / "protein.mrc", VOXEL, 2 * VOXEL)
    upright = Rotation.from_euler("YX", [35, 20], degrees=True)
    places = np.array([[y, x] for y, x in ((9, 14), (14, 36), (22, 22), (32, 12), (34, 36))])
    height = 18 - ((places[:, 1] - 26) * normal[0] + (places[:, 0] - 22) * normal[1]) / normal[2]
    places = np.column_stack([np.rint(height), places]).astype(int)
    for number, place in enumerate(places):
        turn = upright * Rotation.from_euler("ZX", [70 * number, 180 * (number % 2)], degrees=True)
        box, _ = rotate(template, turn.as_matrix())
        add_box(volume, box / template.density.max(), place - box.shape[0] // 2)
    kz, kx = np.fft.fftfreq(shape[0])[:, None, None], np.fft.rfftfreq(shape[2])
    spectrum = np.fft.rfftn(volume) * (np.abs(kz) <= np.tan(np.pi / 3) * kx + 1e-9)
    volume = np.fft.irfftn(spectrum, s=shape, axes=(0, 1, 2))
    volume += noise * volume.std() * np.random.default_rng(0).standard_normal(shape)
    write_volume(folder / "tomo.mrc", Volume(volume.astype(np.float32), VOXEL))
    write_volume(folder / "membrane.mrc", Volume(membrane.astype(np.int8), VOXEL))
    return places * VOXEL, normal


def test_membrane_proteins_stand_upright(tmp_path):
    places, normal = tomogram(tmp_path, noise=1.5)
    found, angles = {}, {}
    for name, settings in {"whole": {}, "beside": {"membrane": tmp_path / "membrane.mrc"}}.items():
        config = MatchConfig(
            angle=40.0, contrast="bright", threshold=0.0, max_count=5, noise_control=0, lamella=False,
            refine=False, **settings,
        )  # fmt: skip
        (entry,) = match_files(
            tmp_path / "protein.mrc", [tmp_path / "tomo.mrc"], tmp_path / name, config, device="cpu"
        )[0].values()
        frame = Volume(np.broadcast_to(np.int8(0), (36, 44, 52)), VOXEL)
        picks = read_particles(tmp_path / name / entry["outputs"]["particles"], tomogram=frame)
        distance = np.linalg.norm(picks.positions[:, None] - places, axis=-1).min(axis=0)
        found[name] = (distance <= 60).sum()
        angles[name] = np.degrees(np.arccos(np.clip(np.abs(picks.rotations[:, :, 2] @ normal), 0, 1)))
    assert angles["beside"].max() <= 30 + 8
    assert angles["whole"].max() > 45
    assert found["beside"] >= max(4, found["whole"])


@pytest.mark.parametrize(
    ("settings", "at", "words"),
    [
        ({"symmetry": "O"}, None, "has several"),
        ({}, "picks.star", "whole tomograms"),
        ({}, None, "0 everywhere"),
    ],
)
def test_requests_that_contradict_a_membrane_are_refused(tmp_path, settings, at, words):
    tomogram(tmp_path, noise=0.0)
    write_volume(tmp_path / "empty.mrc", Volume(np.zeros((36, 44, 52), np.int8), VOXEL))
    config = MatchConfig(membrane=tmp_path / "empty.mrc", contrast="bright", **settings)
    picks = None if at is None else tmp_path / at
    with pytest.raises(RequestError, match=words):
        match_files(
            tmp_path / "protein.mrc",
            [tmp_path / "tomo.mrc"],
            tmp_path / "out",
            config,
            at=picks,
            device="cpu",
        )
