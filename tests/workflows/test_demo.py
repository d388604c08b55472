import pytest

from cryovox.core.errors import RequestError
from cryovox.workflows.demo import demo


def test_another_demonstration_is_refused_before_its_phantoms_are_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 7\n")
    with pytest.raises(RequestError, match="other settings"):
        demo(tmp_path, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
