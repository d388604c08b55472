"""Settings of the simulation during training, and the streams with a name that are not presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cryovox.core.config import Config
from cryovox.data.imaging_domain import DomainConfig
from cryovox.data.reconstruction_filters import FilterConfig
from cryovox.simulate.config.surroundings import SurroundingsConfig


class StreamConfig(Config):
    """Simulation during training."""

    base: str | None = None
    """Stream of `STREAMS` whose settings are the defaults; none by default."""
    species: tuple[str, ...] = ()
    """Names of the built-in library, or stems of files in the folders of structures; all there are by
    default. The order is that of the labels."""
    structures: tuple[Path, ...] | Path | None = None
    """Folder or folders of atomic models (PDB, mmCIF) and maps (MRC); relative to this file."""
    library: bool = False
    """Add all species of the built-in library to those of the folders."""
    exclude: tuple[str, ...] = ()
    """Species to leave out."""
    abundance: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Species that are drawn so many times as often as others, as ribosomes prevail in cells; for streams
    whose boxes hold some of the species only (`domain.species_per_box`)."""
    sizes: tuple[float, ...] = ()
    """Limits in Å of classes of particle diameters, ascending. The labels are then these classes rather than
    species; species outside of all classes are left out."""
    voxel_size: float = Field(10.0, gt=0)
    """Edge of a voxel in Å."""
    resolution: float | None = Field(None, gt=0)
    """Resolution of the templates in Å; what the voxels can hold by default."""
    contrast: Literal["dark", "bright"] = "dark"
    """Of the tomograms that the network is for, where their own contrast is unclear."""
    held_out: int = Field(4, ge=1)
    """Boxes to be judged by, which the training never sees."""
    workers: int = Field(1, ge=1)
    """Boxes made at a time, each in a thread; batches do not depend on it."""
    processes: int = Field(0, ge=0)
    """Processes that make groups of boxes; by default, this process makes them. For GPUs with many cores."""
    domain: DomainConfig = DomainConfig()
    """How wide a world is drawn from."""

    @model_validator(mode="before")
    @classmethod
    def _with_base(cls, values: Any) -> Any:
        """Fill in the settings of the base."""
        base = values.get("base") if isinstance(values, dict) else None
        if base is None:
            return values
        if base not in STREAMS:
            raise ValueError(f"base is one of {', '.join(STREAMS)}, got {base!r}")
        return _merged(STREAMS[base].model_dump(), values)

    @model_validator(mode="after")
    def _consistent(self) -> StreamConfig:
        if self.sizes and (len(self.sizes) < 2 or list(self.sizes) != sorted(set(self.sizes))):
            raise ValueError("sizes are two or more ascending diameters")
        if self.abundance and self.domain.species_per_box is None:
            raise ValueError("abundance needs domain.species_per_box")
        return self

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of structures."""
        if self.structures is None:
            return ()
        return self.structures if isinstance(self.structures, tuple) else (self.structures,)


def _merged(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Nested settings, from *defaults* where *values* do not say."""
    sections = {
        key: _merged(defaults[key], value)
        for key, value in values.items()
        if isinstance(value, dict) and isinstance(defaults.get(key), dict)
    }
    return defaults | values | sections


STREAMS: dict[str, StreamConfig] = {
    "embedded": StreamConfig(
        library=True,
        sizes=(40.0, 70.0, 110.0, 170.0, 400.0),
        held_out=12,
        domain=DomainConfig(
            patches=10,
            blocks=6,
            poses=2,
            voxel_size=(0.75, 1.3),
            occupancy=(0.003, 0.3),
            empty=0.12,
            species_per_box=(1, 8),
            tilt=(35.0, 66.0),
            step=(1.5, 4.0),
            defocus=(1.0, 6.5),
            defocus_spread=0.3,
            phase_flip=0.4,
            dose=(40.0, 180.0),
            thickness=(400.0, 3500.0),
            crowd_snr=(0.08, 10.0),
            cytosol=(0.0, 1.2),
            shift=(0.0, 20.0),
            low_pass=(12.0, 130.0),
            low_pass_scale="log",
            gain=0.3,
            offset=0.2,
            surroundings=SurroundingsConfig(
                share=0.5, crystals=0, beads=3, bead_diameter=(80.0, 160.0), bead_potential=(15.0, 26.0)
            ),
            cut=0.2,
            filters=FilterConfig(
                slope_share=0.7, slope=(-0.5, 1.8), smooth_share=0.1, variation=(0.0, 0.3), clip=4.0
            ),
        ),
    ),
}
"""Streams by name. `embedded` is the training data of a detector of particles of any shape, by their size."""
