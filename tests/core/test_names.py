import pytest

from cryovox.core.config import Config, refusing_options, validated
from cryovox.core.errors import RequestError
from cryovox.core.names import nearest, suggestion


class Inner(Config):
    learning_rate: float = 0.1


class Outer(Config):
    inner: Inner = Inner()
    steps: int = 3


def test_case_spaces_and_underscores_do_not_matter():
    assert nearest("Vox_ResNet", ["voxresnet", "deepfinder"]) == "voxresnet"
    assert nearest("qqq", ["voxresnet"]) is None
    assert suggestion("x", []) == "there are: none"


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"stesp": 3}, "did you mean 'steps'?"),
        ({"inner": {"learning-rte": 3}}, "did you mean 'learning_rate'?"),
        ({"inner": {"zzz": 3}}, "there are: learning_rate"),
    ],
)
def test_an_unknown_key_names_the_nearest_of_its_settings(values, advice):
    with pytest.raises(RequestError) as refusal:
        validated(Outer, values, "file.yaml")
    assert refusal.value.remedy == advice


def test_a_value_of_an_option_is_refused_by_the_option():
    with refusing_options(["--learning-rate", "x"]), pytest.raises(RequestError) as refusal:
        Inner(learning_rate="x")  # type: ignore[arg-type]
    assert refusal.value.where == "--learning-rate"
    assert "pydantic" not in str(refusal.value)
    with pytest.raises(ValueError, match="learning_rate"):  # elsewhere it stays what pydantic says
        Inner(learning_rate="x")  # type: ignore[arg-type]
