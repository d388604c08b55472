"""The commands of cryovox in copick, run by copick itself where it is installed."""

import json
from importlib.metadata import entry_points
from importlib.util import find_spec

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles

pytestmark = pytest.mark.filterwarnings("ignore")
# copick 1 needs zarr below 3 and copick 2 is an alpha version, so neither is among the test dependencies
needs_copick = pytest.mark.skipif(find_spec("copick") is None, reason="copick is not installed")
SHAPE, SIZE = (20, 31, 42), 10.0


@pytest.fixture
def project(tmp_path):
    """A project with two objects and two runs; its configuration."""
    import copick

    objects = [
        {"name": name, "is_particle": True, "label": i, "color": [0, 117, 220, 255], "radius": 50.0}
        for i, name in enumerate(("ribosome", "vault"), 1)
    ]
    content = {
        "config_type": "filesystem",
        "name": "test",
        "description": "test",
        "version": "1.0.0",
        "pickable_objects": objects,
        "overlay_root": f"local://{tmp_path / 'overlay'}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    (tmp_path / "overlay").mkdir()
    config = tmp_path / "config.json"
    config.write_text(json.dumps(content))
    root = copick.from_file(str(config))
    rng = np.random.default_rng(0)
    for name in ("TS_1", "TS_2"):
        run = root.new_run(name)
        tomogram = run.new_voxel_spacing(SIZE).new_tomogram("wbp")
        tomogram.from_numpy(rng.normal(size=SHAPE).astype(np.float32))
    return config


@pytest.fixture
def command(project):
    """Run a command of copick; gives its output."""
    from click.testing import CliRunner
    from copick.cli.cli import _cli, add_plugin_commands

    cli = add_plugin_commands(_cli) or _cli

    def call(*args, code=0):
        result = CliRunner().invoke(cli, [*map(str, args), "-c", str(project)])
        assert result.exit_code == code, result.output + repr(result.exception)
        return result.output

    return call


def test_entry_points_are_declared():
    names = {p.name for group in ("inference", "process", "convert")
             for p in entry_points(group=f"copick.{group}.commands")}  # fmt: skip
    if not names:
        pytest.skip("the package is not installed with its entry points")
    assert {"cryovox-find", "cryovox-filter", "cryovox-export", "cryovox-import"} <= names


@needs_copick
def test_lists_into_a_project_and_out_again(command, project, tmp_path):
    import copick

    rng = np.random.default_rng(1)
    places = rng.uniform(1, np.array(SHAPE) - 2, (12, 3)) * SIZE
    names = ["TS_1", "TS_2"] * 6
    kinds = ["ribosome"] * 6 + ["vault"] * 6
    turns = Rotation.random(12, rng=rng).as_matrix()
    picks = Particles.of(places, kinds, rng.random(12), turns, names)
    from cryovox.formats import write_particles

    frame = Volume(np.broadcast_to(np.int8(0), SHAPE), SIZE)
    frames = {"TS_1": frame, "TS_2": frame}
    write_particles(tmp_path / "all.star", picks, tomogram=frames)
    tomograms = ("--voxel-size", SIZE, "--tomo-type", "wbp")
    command("convert", "cryovox-import", tmp_path / "all.star", *tomograms)
    stored = copick.from_file(str(project)).get_run("TS_2").get_picks("vault")[0]
    assert (stored.user_id, stored.session_id, len(stored.points)) == ("cryovox", "1", 3)
    point = stored.points[0].location
    np.testing.assert_allclose([point.z, point.y, point.x], places[7], atol=1e-3)
    command("convert", "cryovox-export", "--out", tmp_path / "{name}.tbl", *tomograms)
    loaded = read_particles(tmp_path / "TS_1.tbl", tomogram=frame)
    rows = [i for i, name in enumerate(names) if name == "TS_1"]
    np.testing.assert_allclose(loaded.positions, places[rows], atol=1e-3)
    np.testing.assert_allclose(loaded.rotations, turns[rows], atol=1e-5)
    again = ("convert", "cryovox-import", tmp_path / "all.star", *tomograms)
    assert "there already" in command(*again, code=1)
    command(*again, "--overwrite")


@needs_copick
def test_filter(command, project, tmp_path):
    import copick

    (tmp_path / "TS_1.csv").write_text(
        "x,y,z,particle_type,score\n10,10,10,vault,0.9\n12,10,10,vault,0.8\n90,90,90,vault,0.2\n"
    )
    command("convert", "cryovox-import", tmp_path / "TS_1.csv")
    options = ("--min-score", "0.5", "--duplicates", "20", "--out-session-id", "2")
    output = command("process", "cryovox-filter", "--object", "vault", *options)
    assert "TS_1: 1 picks of vault" in output
    run = copick.from_file(str(project)).get_run("TS_1")
    assert [len(p.points) for p in run.get_picks("vault", session_id="2")] == [1]
    assert "no run" in command("process", "cryovox-filter", "-r", "TS_9", code=1)
