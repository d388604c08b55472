"""Settings of the workflows; imports no torch, so that help and refusals are quick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro
import yaml
from pydantic import Field, create_model, field_validator

from cryovox.core.config import Config, Contrast
from cryovox.data.config import AugmentConfig, PatchConfig
from cryovox.training.config import LoopConfig
from cryovox.training.strategies import config_of
from cryovox.training.strategies.config.supervised import SupervisedConfig

Rule = Literal["radius", "czii", "shrec"]
"""When a pick counts as right."""


def _options(words: list[str]) -> dict[str, Any]:
    try:
        found = yaml.safe_load(words[0])
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{words[0]!r} is not of the form '{{name: value}}'")
    return found


# one option for all, since the names of a network's own may be those of other settings
AS_YAML = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="YAML",
    instance_from_str=_options,
    is_instance=lambda given: isinstance(given, dict),
    str_from_instance=lambda given: [json.dumps(given)],
)


class NetworkConfig(Config):
    """Which network, how large, and what it knows already."""

    model: str = "heatmap-unet"
    """Network; `cryovox models` lists them."""
    size: str = "s"
    """Row of the table of sizes: `s` trains on two cores, `paper` is as published."""
    options: Annotated[dict[str, Any], AS_YAML] = Field({})
    """Sizes of the network to change, as YAML, such as '{widths: [8, 16]}'."""
    start: Path | None = None
    """Model file whose weights to start from, where name and shape agree; a head for other classes is
    new."""
    freeze: Literal["none", "encoder", "all-but-head"] = "none"
    """What of a started network keeps its weights and batch statistics all along; to free it later,
    start a second training from the result."""

    @field_validator("start")
    @classmethod
    def _resolve(cls, start: Path | None) -> Path | None:
        """However the path is spelled, a run goes on with the same settings."""
        return None if start is None else start.resolve()


class HeldOutConfig(Config):
    """What is held out for validation where no entry of the dataset has the split `val`."""

    held_out: float = Field(0.2, gt=0, lt=1)
    """Share of the annotated particles of each region, cut off across its longer axis of y and x; or
    of the subtomograms of a set, of every species alike."""


class SetConfig(Config):
    """How a subtomogram set is understood."""

    set_contrast: Contrast = "auto"
    """Whether particles are dark or bright in the subtomograms, where the set does not say."""
    merge_species: bool = False
    """Teach one species, called particle, whatever the set tells apart."""


class TrainConfig(Config):
    """Everything that a training depends on, but for the data and the device."""

    strategy: ClassVar[str] = "supervised"

    network: NetworkConfig = NetworkConfig()
    supervised: SupervisedConfig = SupervisedConfig()
    loop: LoopConfig = LoopConfig()
    patches: PatchConfig = PatchConfig()
    augment: AugmentConfig = AugmentConfig()
    sets: SetConfig = SetConfig()
    validation: HeldOutConfig = HeldOutConfig()
    seed: int = 0
    """Seed of everything random."""


class GeneralConfig(TrainConfig):
    """A training that is to hold where nobody has looked yet."""

    network: NetworkConfig = NetworkConfig(model="voxresnet")


def settings_of(strategy: str, base: type[TrainConfig] = TrainConfig) -> type[TrainConfig]:
    """Settings of a training by a strategy of the table; those of its own are in `own`."""
    if strategy == "supervised":
        return base
    own = config_of(strategy)
    kind = create_model(f"{strategy} settings", __base__=base, own=(own, own()))
    kind.strategy = strategy
    return kind


class StageConfig(Config):
    """How source and target share the training, and how the outcome is judged."""

    source_share: float = Field(0.5, gt=0, lt=1)
    """Share of steps and time in which the network learns the source alone; without meaning where
    --start names a model that knows it."""
    target_contrast: Contrast = "auto"
    """Whether particles are dark or bright in the target; what is clearly seen by default, else that of
    the source."""
    judged: int = Field(64, ge=4)
    """Target patches on which the source model and the adapted one are compared, without labels."""
    beside_noise: int = Field(256, ge=0)
    """Target patches whose foreground is compared with that of noise; an adapted model that finds the same
    in both is not kept. Fewer than 16 leave the comparison out."""
    margin: float = Field(0.0, ge=0)
    """By how much the adapted model must look better to be kept."""


class AdaptConfig(TrainConfig):
    """Everything that an adaptation depends on, but for the data and the device."""

    network: NetworkConfig = NetworkConfig(model="voxresnet")
    stages: StageConfig = StageConfig()


def adapt_settings(strategy: str) -> type[AdaptConfig]:
    """Settings of an adaptation by a strategy of the table; those of its own are in `own`."""
    found = settings_of(strategy, AdaptConfig)
    assert issubclass(found, AdaptConfig)
    return found


class SegmentConfig(Config):
    """How tomograms are scored."""

    contrast: Contrast = "auto"
    """Whether particles are dark or bright in the tomograms."""
    voxel_size: float | None = Field(None, gt=0)
    """Edge of a voxel in Å; wins over the headers."""
    overlap: float | None = Field(None, ge=0, lt=1)
    """Overlap of neighbouring tiles; the model's own by default."""
    tta: Literal[1, 4, 8] = 1
    """Views to average: the half turns (4), and the mirrors (8), of the missing wedge."""
    tilt_axis: Literal["y", "x"] = "y"
    """Tilt axis of the tomograms; `cryovox doctor` says which it is."""
    batch: int = Field(4, ge=1)
    """Tiles that the network sees at once; changes speed, not the result."""
    slab_rows: int = Field(1, ge=1)
    """Rows of tiles held in memory; changes memory, not the result."""
    mask: Path | None = None
    """Mask of the region to search: a volume of the shape of the tomogram that is not 0 inside, or a folder
    of masks named after the tomograms. What lies outside is skipped."""


class PickOutput(Config):
    """What particle files look like."""

    flavour: str = "relion5"
    """Dialect of the STAR file: relion5, relion4 or relion3."""


class DenoiseConfig(Config):
    """How tomograms are denoised."""

    method: Literal["ibf", "bf", "ngm"] = "ibf"
    """Bilateral filter that compares gradients of the Laplacian (ibf) or grey values (bf), or a low-pass
    filter (ngm)."""
    sigma_d: float = Field(120.0, gt=0)
    """Of ibf and bf: width of the Gaussian on distances, in voxels."""
    sigma_r: float = Field(1.2, gt=0)
    """Of ibf and bf: width of the Gaussian on differences, of grey values with standard deviation 1."""
    cube: float = Field(0.625, gt=0, le=1)
    """Of ngm: share of the frequencies along each axis that stay, the lowest ones."""
    voxel_size: float | None = Field(None, gt=0)
    """Edge of a voxel in Å; wins over the headers."""
    slab: int | None = Field(None, ge=1)
    """Planes filtered at once; as memory wants it by default. Does not change the result."""


class ConvertConfig(Config):
    """What to change on the way."""

    voxel_size: float | None = Field(None, gt=0)
    """Edge of a voxel in Å of the input; wins over what the file says."""
    resample: float | None = Field(None, gt=0)
    """Voxel size in Å to resample a volume to."""
    unsigned_bytes: bool = False
    """Read signed bytes (mode 0 of MRC) as 0 to 255, where the header does not say that they are so."""
    fill_nan: bool = False
    """Replace values that are NaN or infinite by the mean of the others."""
    invert: bool = False
    """Multiply grey values by -1."""
    out_voxel_size: float | None = Field(None, gt=0)
    """Pixel size in Å of coordinates in the output, for formats that count pixels."""
    species: str | None = None
    """Species of particles whose file names none."""
    flavour: Literal["relion5", "relion4", "relion3", "czii"] | None = None
    """Dialect of the file that is written: one of RELION's for STAR, czii for a submission to that
    challenge as CSV."""
