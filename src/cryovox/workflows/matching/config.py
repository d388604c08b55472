"""Settings of template matching; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cryovox.core.config import Config, Contrast
from cryovox.core.errors import RequestError
from cryovox.core.names import suggestion
from cryovox.picking.config import PickConfig

DEFAULT_TILTS = (-60.0, 60.0)
SYMMETRIES = r"^([CD][1-9]\d?|T|O|I)$"
"""Names of point groups."""


class PoseConfig(Config):
    """Poses."""

    basic: ClassVar[tuple[str, ...] | None] = ("poses",)

    poses: tuple[str, ...] = ()
    """Structure (PDB, mmCIF), map (MRC, bright particle) or built-in species that gives the picks poses by
    template matching, or SPECIES=MAP for the picks of one species; several are separated by spaces."""
    pose_angle: float = Field(15.0, ge=2, le=60)
    """With --poses: angular step in degrees before the refinement."""
    pose_symmetry: str = Field("C1", pattern=SYMMETRIES)
    """With --poses: point group of the templates, with the main axis along z."""
    tilt_range: tuple[float, float] = DEFAULT_TILTS
    """With --poses: lowest and highest tilt in degrees."""

    def templates(self) -> dict[str | None, Path]:
        """Species -> template; None stands for all species."""
        pairs = [entry.split("=", 1) if "=" in entry else (None, entry) for entry in self.poses]
        return {species: Path(template) for species, template in pairs}

    def check(self, species: Sequence[str]) -> None:
        """Refuse templates of other species, and a wrong tilt range."""
        check_tilts(self.tilt_range)
        for name in self.templates():
            if name is not None and name not in species:
                remedy = suggestion(name, species)
                raise RequestError("--poses", f"{name!r} is not a species of the model", remedy)


def check_tilts(tilts: tuple[float, float]) -> None:
    """Refuse a tilt range that is not one."""
    low, high = tilts
    if not -90 <= low < high <= 90:
        raise RequestError("--tilt-range", f"is {low:g} to {high:g}", "give the lower tilt first, -90 to 90")


class MatchConfig(Config):
    """Search."""

    basic: ClassVar[tuple[str, ...] | None] = (
        "angle", "symmetry", "tilt_range", "defocus", "threshold", "false_positives", "fdr", "max_count",
        "mask", "contrast", "whiten", "hand",
    )  # fmt: skip

    angle: float = Field(15.0, ge=2, le=60)
    """Angular step in degrees: every rotation lies within it of a searched one."""
    search_voxel_size: Annotated[float, Field(gt=0)] | Literal["auto", "tomogram"] = "auto"
    """Voxel size of the search in Å. auto takes the coarsest that the angular step resolves, or that of the
    tomogram with `--hand both`; tomogram always takes that. Picks are refined at the voxel size of the
    tomogram."""
    refine: bool = True
    """Refine rotations between the searched ones, and positions between voxels; scores stay those of the
    search."""
    max_shift: float | None = Field(None, ge=0)
    """With --at: largest shift along each axis in Å before the refinement; by default a quarter of the
    radius."""
    symmetry: str = Field("C1", pattern=SYMMETRIES)
    """Point group of the template, such as C2, D7, T, O or I, with the main axis along z; only rotations that
    differ are searched."""
    tilt_range: tuple[float, float] | None = None
    """Lowest and highest tilt in degrees; by default that of the dataset, else -60 to 60."""
    tilt_axis: Literal["y", "x"] | None = None
    """Tilt axis; by default that of the dataset, else y. `cryovox doctor` detects it."""
    defocus: float | None = Field(None, ge=0.1, le=20)
    """Mean defocus in µm, positive for underfocus: applies the CTF to the template. By default none, for
    tomograms with CTF correction."""
    phases_flipped: bool = False
    """With --defocus: the phases of the tomogram are flipped, its amplitudes are not corrected."""
    voltage: float = Field(300.0, ge=50, le=1500)
    """With --defocus: acceleration voltage in kV."""
    cs: float = Field(2.7, ge=0, le=10)
    """With --defocus: spherical aberration in mm."""
    amplitude_contrast: float = Field(0.07, ge=0, lt=1)
    """With --defocus: amplitude contrast."""
    whiten: bool = False
    """Flatten the radial power spectrum of tomogram and template."""
    low_pass: float | None = Field(None, gt=0)
    """Low-pass filter of tomogram and template: resolution in Å at which it falls to 1/e."""
    high_pass: float | None = Field(None, gt=0)
    """High-pass filter of tomogram and template: resolution in Å at which it rises to 1 - 1/e."""
    radius: float | None = Field(None, gt=0)
    """Radius of the particles in Å; by default that of the template. The radius of the spherical mask is 1.2
    times this."""
    name: str | None = None
    """Name of the species in the particle files; by default that of the template."""
    contrast: Contrast = "auto"
    """Contrast of the particles in the tomograms."""
    voxel_size: float | None = Field(None, gt=0)
    """Voxel size of the tomograms in Å; overrides the headers."""
    mask: Path | None = None
    """Mask of the region to search: a volume of the shape of the tomogram that is not 0 inside, or a folder
    of masks named after the tomograms."""
    membrane: Path | None = None
    """Mask or segmentation of a membrane that is not 0 inside, or a folder of them named after the tomograms:
    searches beside the membrane, with the z axis of the template along its normal."""
    membrane_distance: float | None = Field(None, ge=0)
    """With --membrane: largest distance of a particle from the membrane in Å; by default the radius."""
    membrane_angle: float = Field(30.0, gt=0, le=90)
    """With --membrane: largest angle in degrees between the z axis of the template and the normal."""
    lamella: bool = True
    """Leave out particles more than a radius outside the sample, whose faces are estimated; masks/NAME.mrc
    shows it. Nothing is left out where the faces are not clear."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Minimum score of a particle; by default the best score in the noise control."""
    false_positives: float | None = Field(None, gt=0)
    """Instead of --threshold: expected number of false positives per tomogram. With a decoy, the search takes
    twice as long."""
    fdr: float | None = Field(None, gt=0, lt=1)
    """Instead of --threshold: largest estimated false discovery rate of a particle. With a decoy, the search
    takes twice as long."""
    decoy: Literal["auto", "mirror", "none"] = "auto"
    """Decoy for the expected false positives: the mirror image of the template. auto takes it unless it looks
    like the template at this resolution; none counts in noise only."""
    hand: Literal["given", "mirrored", "both"] = "given"
    """Hand of the template. both searches twice, says by how much one hand scores higher, and keeps it; that
    of the template if they score alike."""
    regularize: bool = False
    """Add the standard deviation of the tomogram to the local one by which correlations are divided: places
    of low contrast score lower. For dense particles such as ribosomes; scores are about half as high."""
    top_hat: bool = False
    """Subtract the morphological opening from the scores, which removes broad maxima such as those on
    membranes."""
    distance: float | None = Field(None, ge=0)
    """Minimum distance between particles in Å; by default their radius."""
    border: float | None = Field(None, ge=0)
    """Exclude particles whose center lies within this distance of the volume edge, in Å; by default half the
    radius."""
    max_count: int | None = Field(None, ge=1)
    """Maximum number of particles per tomogram, best first."""
    noise_control: float = Field(0.125, ge=0, le=1)
    """Fraction of the tomogram that is searched again with random phases, and with a decoy, to show what the
    template scores where there is no particle; 0 skips both."""
    block_voxels: int = Field(1 << 24, ge=4096)
    """Maximum number of voxels of a Fourier transform; changes memory and speed, not the result."""

    def picking(self, threshold: float) -> PickConfig:
        """Picking from the scores."""
        return PickConfig(
            threshold=min(threshold, 1.0),
            distance=self.distance,
            border=self.border,
            max_count=self.max_count,
        )
