"""Settings of the workflows; imports no torch, so that help and refusals are quick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import tyro
import yaml
from pydantic import Field, field_validator, model_validator

from cryovox.core.config import Config, Contrast
from cryovox.core.safe_yaml import load_yaml
from cryovox.core.sizes import Size
from cryovox.data.config import AugmentConfig, PatchConfig
from cryovox.filters.config import SIGMA_R, Feature
from cryovox.models.card import is_embedded
from cryovox.training.config import LoopConfig
from cryovox.training.strategies import Task, config_of, facts, name_of
from cryovox.training.strategies.config.supervised import SupervisedConfig

Rule = Literal["radius", "czii", "shrec"]
"""When a pick counts as right."""


def _options(words: list[str]) -> dict[str, Any]:
    try:
        values = load_yaml(words[0])
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"{words[0]!r} is not of the form '{{name: value}}'")
    return values


# one option for all, since the names of a network's own may be those of other settings
AS_YAML = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="YAML",
    instance_from_str=_options,
    is_instance=lambda values: isinstance(values, dict),
    str_from_instance=lambda values: [json.dumps(values)],
)


class NetworkConfig(Config):
    """Network."""

    basic: ClassVar[tuple[str, ...] | None] = ("model", "size", "start")

    model: str = "heatmap-unet"
    """Network; `cryovox models` lists them and says which one to choose."""
    size: str = "s"
    """Size of the network: `s` trains on two CPU cores, `paper` is as published."""
    options: Annotated[dict[str, Any], AS_YAML] = Field({})
    """Options of the network to change, as YAML, such as '{widths: [8, 16]}'."""
    start: Path | None = None
    """Model file with initial weights, or `embedded`; weights whose name and shape agree are taken, a head
    for other classes is new."""
    freeze: Literal["none", "encoder", "all-but-head"] = "none"
    """Layers to freeze, batch statistics included. To unfreeze them later, start a second training from the
    result."""

    @field_validator("start")
    @classmethod
    def _resolve(cls, start: Path | None) -> Path | None:
        """However the path is spelled, a run goes on with the same settings."""
        return start if start is None or is_embedded(start) else start.resolve()


class HeldOutConfig(Config):
    """Validation."""

    basic: ClassVar[tuple[str, ...] | None] = ("held_out",)

    held_out: float = Field(0.2, gt=0, lt=1)
    """Fraction of the annotated particles of each region, or of the subtomograms of a set, that is held out
    for validation where no entry of the dataset has the split `val`."""


class SetConfig(Config):
    """Subtomogram sets."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    set_contrast: Contrast = "auto"
    """Contrast of the particles in the subtomograms, where the set does not record it."""
    merge_species: bool = False
    """Train one class, called particle, whatever species the set distinguishes."""


class TrainConfig(Config):
    """Settings of a training, without the data and the device."""

    basic: ClassVar[tuple[str, ...] | None] = ("seed",)

    network: NetworkConfig = NetworkConfig()
    supervised: SupervisedConfig = SupervisedConfig()
    loop: LoopConfig = LoopConfig()
    patches: PatchConfig = PatchConfig()
    augment: AugmentConfig = AugmentConfig()
    sets: SetConfig = SetConfig()
    validation: HeldOutConfig = HeldOutConfig()
    seed: int = 0
    """Random seed."""

    @property
    def strategy_config(self) -> Config:
        """Settings of the strategy itself."""
        return self.supervised

    @property
    def strategy(self) -> str:
        """Name of the strategy, by the type of its settings."""
        return name_of(type(self.strategy_config))


Own = TypeVar("Own", bound=Config)
"""Settings of a strategy's own."""


class StrategyConfig(TrainConfig, Generic[Own]):
    """Settings of a training by a strategy with settings of its own."""

    own: Own

    @model_validator(mode="before")
    @classmethod
    def _default(cls, values: Any) -> Any:
        """The defaults of the strategy where nothing of its own is set."""
        return {"own": {}} | values if isinstance(values, dict) else values

    @property
    def strategy_config(self) -> Own:
        return self.own


class DistillationConfig(StrategyConfig[Own], Generic[Own]):
    """Settings of a distillation, whose student is light."""

    network: NetworkConfig = NetworkConfig(size="light")


class GeneralizationConfig(StrategyConfig[Own], Generic[Own]):
    """Settings of a training for domain generalization."""

    network: NetworkConfig = NetworkConfig(model="voxresnet")


class StageConfig(Config):
    """Stages of the adaptation and model selection."""

    basic: ClassVar[tuple[str, ...] | None] = ("source_share",)
    renamed: ClassVar[dict[str, str]] = {
        "judged": "selection_patches",
        "beside_noise": "noise_test_patches",
        "choice_share": "selection_share",
    }

    source_share: float = Field(0.5, gt=0, lt=1)
    """Fraction of steps and time spent on the source alone; ignored where --start names a source model."""
    target_contrast: Contrast = "auto"
    """Contrast of the particles in the target; detected by default, else that of the source."""
    selection_patches: int = Field(64, ge=4)
    """Number of target patches on which the source and the adapted model are compared, without labels."""
    noise_test_patches: int = Field(256, ge=0)
    """Number of target patches for the noise test: an adapted model that predicts as much foreground in noise
    as in the target is rejected. Fewer than 16 skip the test."""
    margin: float = Field(0.0, ge=0)
    """Minimum difference of the selection scores for which the adapted model is kept."""
    selection_share: float = Field(0.35, ge=0, lt=1)
    """Fraction of --max-time for everything but the two trainings (opening data, validation, model selection,
    report);
    with 0 both trainings take all of it, and the command takes longer."""


class AdaptConfig(StrategyConfig[Own], Generic[Own]):
    """Settings of an adaptation, without the data and the device."""

    network: NetworkConfig = NetworkConfig(model="voxresnet")
    stages: StageConfig = StageConfig()


CONFIG_OF_TASK: dict[Task, Any] = {
    "supervised": StrategyConfig,
    "semi-supervised": StrategyConfig,
    "distillation": DistillationConfig,
    "domain adaptation": AdaptConfig,
    "domain generalization": GeneralizationConfig,
}


def train_config(strategy: str) -> type[TrainConfig]:
    """Settings of a training by a strategy: those of its task, with its own settings in the field `own`.

    That of `vox-uda` is ``AdaptConfig[VoxUDAConfig]``.
    """
    if strategy == "supervised":
        return TrainConfig
    own = config_of(strategy)
    if name_of(own) != strategy:
        raise TypeError(f"{own.__name__} is the Config of {name_of(own)}: give {strategy} a subclass of it")
    settings: type[TrainConfig] = CONFIG_OF_TASK[facts(strategy).task][own]
    return settings


class SegmentConfig(Config):
    """Segmentation."""

    basic: ClassVar[tuple[str, ...] | None] = (
        "contrast", "voxel_size", "tilt_axis", "max_ram", "mask", "surroundings",
    )  # fmt: skip
    without_effect: ClassVar[frozenset[str]] = frozenset({"batch", "slab_rows", "max_ram", "max_vram"})
    """Settings that change memory and speed, not the result."""

    contrast: Contrast = "auto"
    """Contrast of the particles in the tomograms."""
    voxel_size: float | None = Field(None, gt=0)
    """Voxel size in Å; overrides the headers."""
    overlap: float | None = Field(None, ge=0, lt=1)
    """Overlap of neighboring tiles as a fraction of the tile; by default that of the model."""
    tta: Literal[1, 4, 8] = 1
    """Test-time augmentation: number of wedge-preserving orientations (4: half turns; 8: mirrors as well)."""
    tilt_axis: Literal["y", "x"] = "y"
    """Tilt axis of the tomograms; `cryovox doctor` detects it."""
    batch: int | None = Field(None, ge=1)
    """Tiles per forward pass; by default 16 on a GPU, and on a CPU as many as make 64^3 voxels, 1 to 4.
    Changes speed and memory, not the result."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Precision of the network. `bf16` is faster on processors and GPUs that compute in bfloat16, and rounds
    scores. `auto` takes it where it is at least 1.2 times as fast and no score changes by more than 0.02,
    which is measured once per machine and model."""
    backend: Literal["torch", "openvino"] = "torch"
    """What computes the network. `openvino` is often faster on a CPU, needs two seconds to compile a network,
    and is installed with "cryovox[openvino]". Scores differ by rounding."""
    slab_rows: int = Field(1, ge=1)
    """Rows of tiles held in memory; changes the memory, not the result."""
    max_ram: Size | None = None
    """Limit of the memory of the process, such as 4G. Changes the speed, not the result."""
    max_vram: Size | None = None
    """Limit of the memory of the GPU, such as 8G."""
    mask: Path | None = None
    """Mask of the region to search, of the shape of the tomogram and not 0 inside, or a folder of masks named
    after the tomograms."""
    surroundings: bool = False
    """Also write masks of membranes, gold and empty regions."""


class PickOutput(Config):
    """Particle files."""

    renamed: ClassVar[dict[str, str]] = {"flavour": "convention", "star_version": "convention"}

    convention: str = "relion5"
    """STAR convention: relion5, relion4 or relion3."""


class DenoiseConfig(Config):
    """Denoising."""

    method: Literal["ibf", "bf", "ngm"] = "ibf"
    """Filter: improved bilateral filter that compares gradients of the Laplacian (ibf), bilateral filter
    that compares gray values (bf), or low-pass filter (ngm)."""
    sigma_d: float = Field(120.0, gt=0)
    """ibf and bf: standard deviation of the spatial Gaussian, in voxels."""
    sigma_r: float | None = Field(None, gt=0)
    """ibf and bf: standard deviation of the range Gaussian, in standard deviations of the tomogram; by
    default 9.8 for ibf (1.2 for gray values in [0, 1], as published) and 1.2 for bf."""
    cube: float = Field(0.625, gt=0, le=1)
    """ngm: fraction of the frequencies along each axis to keep, the lowest ones."""
    voxel_size: float | None = Field(None, gt=0)
    """Voxel size in Å; overrides the headers."""
    slab: int | None = Field(None, ge=1)
    """Planes filtered at once; by default chosen by memory. Does not change the result."""

    @property
    def feature(self) -> Feature:
        """What the bilateral filter of the method compares."""
        return "gradient" if self.method == "ibf" else "intensity"

    def resolved(self) -> Self:
        """The settings with the default width of the method."""
        return self.model_copy(update={"sigma_r": self.sigma_r or SIGMA_R[self.feature]})


ParticleConvention = Literal[
    "relion5", "relion4", "relion3", "stopgap", "czii", "eman2", "cets", "pytom", "shrec"
]
"""Conventions that `convert` writes where the extension does not say which."""
Center = Literal["half", "half-1"]
"""Center of RELION 5 coordinates."""


class ConvertConfig(Config):
    """Conversion."""

    renamed: ClassVar[dict[str, str]] = {"flavour": "convention", "star_version": "convention"}

    voxel_size: float | None = Field(None, gt=0)
    """Voxel size of the input in Å; overrides the header."""
    resample: float | None = Field(None, gt=0)
    """Resample a volume to this voxel size in Å."""
    stored_voxel_size: float | None = Field(None, gt=0)
    """Read the resolution with this voxel size in Å of an OME-Zarr store, instead of the finest one."""
    bin: float | None = Field(None, gt=0)
    """Binning factor: a volume is resampled to voxels so many times as large; particles are written in such
    voxels. The center of the first voxel stays where it is."""
    flip_x: bool = False
    """Flip the x axis of a volume, or of particles in their tomogram."""
    flip_y: bool = False
    """Flip the y axis."""
    flip_z: bool = False
    """Flip the z axis. An odd number of flips mirrors the hand, and particles lose their orientations."""
    unsigned_bytes: bool = False
    """Read signed bytes (mode 0 of MRC) as 0 to 255, where the header does not mark them as unsigned."""
    fill_nan: bool = False
    """Replace NaN and infinite values by the mean of the others."""
    invert: bool = False
    """Multiply gray values by -1."""
    out_voxel_size: float | None = Field(None, gt=0)
    """Voxel size in Å of the coordinates in the output, for formats in voxels."""
    center: Center | None = None
    """Voxel from which RELION 5 counts in the input: half (n / 2) or half-1 (n / 2 - 1, its Python pickers);
    by default as the file records, else half."""
    out_center: Center | None = None
    """The same for the output; by default that of the input."""
    species: str | None = None
    """Species of the particles, where the file names none."""
    tomolist: Path | None = None
    """List of TOMOMAN or STOPGAP that names the tomograms that the input numbers: lines with a number and a
    file, or STAR."""
    convention: ParticleConvention | None = None
    """Convention of the output, where an extension has several: RELION version or stopgap for STAR, czii for
    a CSV submission to the CZII challenge, eman2 or cets for JSON, pytom for XML, shrec for TXT."""

    @property
    def flips(self) -> str:
        """Axes that are flipped."""
        return "".join(axis for axis in "xyz" if getattr(self, f"flip_{axis}"))
