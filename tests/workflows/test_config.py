"""The settings of a training know their strategy."""

import pytest

from cryovox.training.strategies import FACTS
from cryovox.workflows.config import AdaptConfig, TrainConfig, train_config


@pytest.mark.parametrize("name", FACTS)
def test_settings_name_their_strategy(name):
    config = train_config(name)()
    assert config.strategy == name
    assert isinstance(config, AdaptConfig) == (FACTS[name].task == "domain adaptation")
    assert train_config(name).model_validate({}) == config


def test_settings_of_a_strategy_can_be_changed_one_by_one():
    config = train_config("vox-uda").model_validate({"own": {"threshold": 0.7}})
    default = train_config("vox-uda")()
    assert config.own == default.own.model_copy(update={"threshold": 0.7})
    assert TrainConfig().strategy == "supervised"


def test_two_strategies_cannot_share_their_settings(monkeypatch):
    monkeypatch.setitem(FACTS, "mmd", FACTS["coral"])
    with pytest.raises(TypeError, match="CoralConfig is the Config of coral: give mmd a subclass"):
        train_config("mmd")
