import pytest

from cryovox.core.config import validated
from cryovox.core.errors import RequestError
from cryovox.training.recipes import recipe, recipes
from cryovox.workflows.config import TrainConfig

PATCHES = {"mvgformer": 9 * 4096, "mvgformer-pretraining": 75_000}
EPOCHS = {"mvgformer": 200, "mvgformer-pretraining": 100}


def test_there_are_recipes():
    assert recipes() == sorted(PATCHES)


@pytest.mark.parametrize("name", PATCHES)
def test_a_recipe_is_a_training_as_published(name):
    config = validated(TrainConfig, recipe(name), name)
    assert (config.network.model, config.network.size) == ("mvgformer", "paper")
    loop = config.loop
    assert (loop.optimizer, loop.lr, loop.batch, loop.warmup, loop.weight_decay) == ("adam", 1e-3, 72, 0, 0)
    assert loop.steps == round(EPOCHS[name] * PATCHES[name] / loop.batch)
    assert loop.patience * loop.validate_every >= loop.steps  # it is not stopped before its time
    assert (config.supervised.loss, config.supervised.ema) == ("ce", 0)
    gray = ("contrast", "brightness", "noise", "blur", "cut")
    assert not any((config.augment.flips, *(getattr(config.augment, name) for name in gray)))
    assert set(gray) | {"flips", "mirrors"} == set(type(config.augment).model_fields)  # no other augmentation


def test_the_rate_falls_to_a_tenth_after_half_of_the_epochs():
    assert recipe("mvgformer")["loop"]["schedule"] == "step"
    assert recipe("mvgformer-pretraining")["loop"]["schedule"] == "constant"


def test_a_recipe_that_does_not_exist_is_refused():
    with pytest.raises(RequestError, match="there is none called 'mvg'"):
        recipe("mvg")
