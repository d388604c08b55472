"""Settings of the simulated microscope."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from cryovox.core.config import Config


class OpticsConfig(Config):
    """Optics and CTF."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    voltage: float = Field(300.0, gt=0)
    """Acceleration voltage in kV."""
    cs: float = Field(2.7, ge=0)
    """Spherical aberration in mm."""
    amplitude_contrast: float = Field(0.07, ge=0, lt=1)
    """Amplitude contrast."""
    phase_shift: float = 0.0
    """Phase shift of a phase plate in degrees."""
    cc: float = Field(2.7, ge=0)
    """Chromatic aberration in mm."""
    energy_spread: float = Field(0.7, ge=0)
    """Standard deviation of the electrons' energy in eV."""
    aperture: float = Field(0.03, ge=0)
    """Half angle of the illumination in mrad (1/e of a Gaussian source)."""
    b_factor: float = Field(0.0, ge=0)
    """B-factor in Å² of a further envelope exp(-B k^2 / 4); motion of standard deviation s has 8 pi^2 s^2."""
    damage: bool = True
    """Radiation damage: attenuate high frequencies with the accumulated dose."""
    model: Literal["weak", "strong", "multislice"] = "strong"
    """Image formation: linear in the projected potential (weak), squared modulus of the wave transmitted by
    the projected potential (strong), or multislice propagation through the tilted sample."""
    slice_thickness: float = Field(50.0, gt=0)
    """Thickness of the slices of `multislice`, in Å."""


class DetectorConfig(Config):
    """Detector.

    The defaults are typical of counting cameras (compare McMullan et al. 2014).
    """

    basic: ClassVar[tuple[str, ...] | None] = ()

    dqe: float = Field(0.85, gt=0, le=1)
    """Detective quantum efficiency at frequency 0: the fraction of the electrons that is counted."""
    dqe_nyquist: float = Field(0.35, gt=0, le=1)
    """Detective quantum efficiency at the Nyquist frequency of the camera pixels."""
    mtf_nyquist: float = Field(0.45, gt=0, le=1)
    """Modulation transfer function at the Nyquist frequency of the camera pixels."""
    pixel_size: float | None = Field(None, gt=0)
    """Pixel size of the camera in Å, if the series is binned; by default the voxel size."""
    mean_free_path: float | None = Field(3950.0, gt=0)
    """Inelastic mean free path in ice, in Å (Rice et al. 2018, 300 kV): the energy filter removes
    inelastically scattered electrons. No loss if null."""
    thickness: float | None = Field(None, gt=0)
    """Thickness of the ice in Å; by default that of the volume."""
    snr: float | None = Field(None, gt=0)
    """Signal-to-noise ratio of the tilt series, to which the noise is scaled; by default set by the dose."""
    frames: bool = False
    """Record each tilt as two exposures of half the dose, for half-sets of frames instead of tilts."""

    @classmethod
    def ideal(cls, **more: Any) -> DetectorConfig:
        """Perfect detector without loss of electrons; *more* overrides fields."""
        return cls(**{"dqe": 1.0, "dqe_nyquist": 1.0, "mtf_nyquist": 1.0, "mean_free_path": None} | more)


Dose = Annotated[float, Field(gt=0)]


class TiltConfig(Config):
    """Tilt series."""

    basic: ClassVar[tuple[str, ...] | None] = ("range", "step", "total_dose", "defocus")

    scheme: Literal["dose-symmetric", "continuous", "bidirectional", "list"] = "dose-symmetric"
    """Order of the tilts."""
    range: tuple[float, float] = (-60.0, 60.0)
    """Minimum and maximum tilt in degrees."""
    step: float = Field(2.0, gt=0)
    """Tilt increment in degrees."""
    start: float = 0.0
    """Angle of the first tilt of the dose-symmetric and bidirectional schemes."""
    angles: tuple[float, ...] = ()
    """Scheme `list`: tilt angles in degrees, in the order of acquisition."""
    measured_defocus: tuple[float, ...] = ()
    """Scheme `list`: defocus of each tilt in µm instead of a random one."""
    total_dose: Dose | tuple[Dose, Dose] = 120.0
    """Total dose in e/Å², distributed evenly over the tilts; two numbers are the range of a random draw."""
    defocus: tuple[float, float] = (2.0, 5.0)
    """Range of the mean defocus of the series in µm, positive for underfocus."""
    defocus_spread: float = Field(0.0, ge=0)
    """Standard deviation of the defocus of a tilt around the mean, in µm."""
    defocus_error: float = Field(0.0, ge=0)
    """Standard deviation of the error of the estimated defocus of a tilt, in µm."""
    astigmatism: tuple[float, float] = (0.0, 0.0)
    """Range of the astigmatism (largest minus smallest defocus) of the series in µm."""
    astigmatism_angle: tuple[float, float] = (0.0, 180.0)
    """Range of the direction of the largest defocus in degrees, from x toward y."""
    shift: float = Field(0.0, ge=0)
    """Residual alignment error: standard deviation on each axis, in Å."""
    angle_error: float = Field(0.0, ge=0)
    """Standard deviation of the true tilt angle around the nominal one, in degrees."""

    @model_validator(mode="after")
    def _consistent(self) -> TiltConfig:
        low, high = self.range
        if not -90 < low <= high < 90:
            raise ValueError("range runs from low to high within -90 to 90 degrees")
        if not low <= self.start <= high:
            raise ValueError("start lies outside range")
        for name in ("defocus", "total_dose", "astigmatism", "astigmatism_angle"):
            first, last = self.bounds(name)
            if first > last:
                raise ValueError(f"{name} runs from low to high")
        if self.astigmatism[0] < 0:
            raise ValueError("astigmatism is not negative; astigmatism_angle turns it")
        if any(not -90 < a < 90 for a in self.angles):
            raise ValueError("angles lie within -90 to 90 degrees")
        return self

    def bounds(self, name: str) -> tuple[float, float]:
        """Range from which a setting is drawn; a single number is a range of width 0."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value, value)


class ReconstructionConfig(Config):
    """Reconstruction."""

    basic: ClassVar[tuple[str, ...] | None] = ()

    method: Literal["wbp", "sirt"] = "wbp"
    """Weighted back-projection (wbp), or simultaneous iterative reconstruction (sirt)."""
    weighting: Literal["ramp", "exact"] = "ramp"
    """Weighting of wbp: ramp filter with angular weights, or exact filter from the overlap of the central
    slices (Harauz and van Heel 1986)."""
    window: Literal["soft", "hamming", "none"] = "soft"
    """Window of wbp at high frequencies: cosine edge at `cutoff`, Hamming, or none."""
    cutoff: float = Field(0.9, gt=0, le=1)
    """Frequency relative to Nyquist at which the cosine edge is 1/2."""
    iterations: int = Field(20, ge=1)
    """Iterations of sirt."""
    phase_flip: bool = False
    """Correct the CTF by phase flipping with the estimated defocus of each tilt."""
    binning: int = Field(1, ge=1)
    """Binning of the series (by cropping in Fourier space) before the reconstruction."""
    thickness: int | None = Field(None, ge=1)
    """Thickness in voxels before binning, centered in the scene; by default that of the scene."""


Beyond = Literal["nothing", "mirror"]
