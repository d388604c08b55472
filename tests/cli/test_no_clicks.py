"""The recipe of docs/how-to/no-clicks.md, on small simulated tomograms."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.volume import Volume
from cryovox.formats import read_particles, read_volume, write_volume
from cryovox.simulate.particles import library
from cryovox.simulate.particles.rotate import add_box, rotate

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "no-clicks.md"
SPECIES, VOXEL = "vlp", 40.0
SMALL = {
    "match": "--symmetry I --angle 30 --contrast dark --noise-control 1",
    "train": "--size xs --steps 4 --patch 32 --batch 2",
    "find": "--threshold 0 --max-count 5 --pose-symmetry I --pose-angle 30",
}


def tomogram(path, seed):
    """Six particles in noise, with a missing wedge."""
    rng, shape = np.random.default_rng(seed), (40, 64, 72)
    template, volume = library.build_template(SPECIES, VOXEL), np.zeros((40, 64, 72), np.float32)
    places = [(z, y, x) for z in (12, 28) for y, x in ((14, 16), (32, 36), (50, 56))]
    for place, turn in zip(places, Rotation.random(6, random_state=rng).as_matrix(), strict=True):
        density, _ = rotate(template, turn)
        add_box(volume, density, np.array(place) - density.shape[0] // 2)
    kz, kx = np.fft.fftfreq(shape[0])[:, None, None], np.fft.rfftfreq(shape[2])
    spectrum = np.fft.rfftn(volume) * (np.abs(kz) <= 1.73 * kx + 1e-9)
    volume = -np.fft.irfftn(spectrum, s=shape, axes=(0, 1, 2))
    volume += volume.std() * rng.standard_normal(shape)
    write_volume(path, Volume(volume.astype(np.float32), VOXEL))


@pytest.mark.slow
def test_a_structure_becomes_a_picker_with_poses(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tomograms").mkdir()
    for number in range(2):
        tomogram(Path("tomograms") / f"TS_{number}.mrc", number)
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    commands = [shlex.split(line)[1:] for line in block.splitlines()]
    assert [command[0] for command in commands] == ["match", "train", "find"]
    for command in commands:
        words = [SPECIES if word == "6qzp.cif" else word for word in command]
        answer = cli(*words, *shlex.split(SMALL[command[0]]), "--device", "cpu", "--quiet")
        assert answer.code == 0, answer.err
    for name in ("TS_0", "TS_1"):
        volume = read_volume(Path("tomograms") / f"{name}.mrc")
        matches, picks = (
            read_particles(Path(folder) / "particles" / f"{name}.star", tomogram=volume)
            for folder in ("matched", "found")
        )
        assert len(matches) >= 4
        assert len(picks) == 5
        assert set(picks.species) == {SPECIES}
        assert not np.allclose(picks.rotations, np.eye(3))
