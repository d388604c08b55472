import pytest

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.workflows.demo import Demo, detected


def test_another_demonstration_is_refused_before_its_phantoms_are_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 7\n")
    with pytest.raises(RequestError, match="other settings"):
        Demo(tmp_path, device="cpu").with_training()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_picks_count_for_the_particle_that_they_lie_on_whatever_their_name():
    truth = Particles.of([[100, 100, 100], [100, 100, 400], [300, 100, 100]], ["a", "b", "b"])
    picks = Particles.of([[100, 110, 100], [100, 100, 460], [300, 100, 101], [500, 0, 0]], "particle-40-70")
    table = detected(picks, truth, {"a": 60.0, "b": 80.0, "c": 20.0})
    assert [list(row) for row in table.rows] == [["a", "120", 1, 1], ["b", "160", 2, 1], ["all", "", 3, 2]]
    assert table.note.startswith("4 picks, 2 of them")
