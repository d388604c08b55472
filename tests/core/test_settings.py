import sys

import pytest
from pydantic import Field

from cryovox.core.config import Config, from_yaml, to_yaml, validated
from cryovox.core.errors import RequestError, RunError
from cryovox.core.registry import Registry


class Inner(Config):
    """Some."""

    depth: int = Field(2, ge=1)
    """How deep."""


class Outer(Config):
    """More."""

    name: str = "Ångström"
    rate: float = 0.5
    inner: Inner = Inner()
    shape: tuple[int, int] = (1, 2)


def test_settings_go_to_yaml_and_back(tmp_path):
    settings = Outer(rate=0.25, inner=Inner(depth=7), shape=(3, 4))
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(settings), encoding="utf-8")
    assert from_yaml(Outer, path) == settings
    assert "Ångström" in path.read_text(encoding="utf-8")
    assert list(settings.model_dump()) == ["name", "rate", "inner", "shape"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rte: 1", "unknown key 'rte'"),
        ("inner: {dept: 3}", "unknown key 'inner.dept'"),
        ("inner: {depth: 0}", r"inner.depth: .*found 0"),
        ("rate: fast", r"rate: .*found 'fast'"),
        ("- 1", "holds no keys"),
        ("a: [", "cannot be read as YAML"),
        ("", "holds no keys"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=message) as caught:
        from_yaml(Outer, path)
    assert str(path) in str(caught.value)


def test_the_known_keys_are_told():
    with pytest.raises(RequestError, match="there are: name, rate, inner, shape"):
        validated(Outer, {"x": 1}, "here")


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(RequestError, match="no such file"):
        from_yaml(Outer, tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(RequestError, match="cannot be read as YAML"):
        from_yaml(Outer, tmp_path / "b.yaml")


def test_errors_carry_where_what_and_remedy():
    error = RunError("disk", "full", "free some")
    assert isinstance(error, RequestError)
    assert (error.where, error.message, error.remedy) == ("disk", "full", "free some")


def registry() -> Registry:
    return Registry("fruit", "no.such.group", {"apple": "colorsys:rgb_to_hsv", "pear": "json:dumps"})


def test_names_are_resolved_on_first_use_only():
    sys.modules.pop("colorsys", None)
    fruits = registry()
    assert list(fruits) == ["apple", "pear"]
    assert "apple" in fruits
    assert "colorsys" not in sys.modules
    assert fruits["apple"].__name__ == "rgb_to_hsv"
    assert "colorsys" in sys.modules


def test_a_near_miss_is_suggested_and_a_far_one_gets_the_list():
    with pytest.raises(RequestError, match="did you mean 'apple'"):
        registry()["aple"]
    with pytest.raises(RequestError, match="there are: apple, pear"):
        registry()["xyz"]


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="'pear' is json:dumps already"):
        registry().add("pear", "json:loads")
