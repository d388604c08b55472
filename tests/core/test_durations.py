import pytest
from pydantic import ValidationError

from cryovox.core.config import Config
from cryovox.core.durations import Duration, seconds


class Patience(Config):
    wait: Duration | None = None


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("0.5s", 0.5)])
def test_durations(text, value):
    assert seconds(text) == value
    assert Patience(wait=text).wait == text


@pytest.mark.parametrize("text", ["", "m", "ten", "5d", "-3m", "0s", "nanm", "infs", "1h30m", "soon"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)
    with pytest.raises(ValidationError, match="is not a duration"):
        Patience(wait=text)


@pytest.mark.parametrize("value", ["20", "0.5", 20, 1.5])
def test_a_number_without_a_unit_is_refused_with_the_three_that_may_be_meant(value):
    fix = f"{value} has no unit: write {value}s \\(seconds\\), {value}m \\(minutes\\) or {value}h"
    with pytest.raises(ValueError, match=fix):
        seconds(str(value))
    with pytest.raises(ValidationError, match=fix):
        Patience(wait=value)
