"""Named settings of published simulations and datasets, and small ones for a start."""

from __future__ import annotations

from cryovox.simulate.config.microscope import DetectorConfig, OpticsConfig, ReconstructionConfig, TiltConfig
from cryovox.simulate.config.scene import FiducialConfig, SceneConfig, SheetConfig, VesicleConfig
from cryovox.simulate.config.tomogram import SimulationConfig

SHREC_2021 = {
    "4V94": 125, "4CR2": 115, "1QVR": 127, "1BXN": 135, "3CF3": 139, "1U6G": 143, "3D2F": 140,
    "2CG9": 125, "3H84": 144, "3GL1": 123, "3QM1": 120, "1S3X": 122, "5MRC": 121,
}  # fmt: skip
"""Species in the order of their labels, with the counts of the test tomogram. The count of 4V94, which was
not scored, is ours."""

CZII = {
    "apo-ferritin": 54,
    "beta-amylase": 12,
    "beta-galactosidase": 16,
    "ribosome": 47,
    "thyroglobulin": 36,
    "virus-like-particle": 16,
}
"""Mean picks in a training tomogram of the CZII challenge."""


def _shrec2021(depth: int, center: float | None) -> SimulationConfig:
    """Settings of the SHREC 2021 simulation (Gubins et al. 2021), from its configuration files.

    The original was simulated at 5 Å with multislice and binned by 2; this one is simulated at 10 Å, with
    multislice only if `optics.model` is set.
    """
    return SimulationConfig(
        species=tuple(SHREC_2021),
        scene=SceneConfig(
            shape=(depth, 512, 512),
            voxel_size=10.0,
            slab=1800.0,
            slab_center=center,
            counts=SHREC_2021,
            vesicles=VesicleConfig(count=2, max_count=7, radius=(200.0, 500.0)),
            fiducials=FiducialConfig(count=7, max_count=14, diameter=(100.0, 100.0)),
        ),
        tilts=TiltConfig(
            scheme="bidirectional", range=(-60, 60), step=2, total_dose=110, defocus=(2, 5), shift=6.5
        ),
        optics=OpticsConfig(
            voltage=300, cs=2.7, amplitude_contrast=0.08, cc=2.7, energy_spread=0.7, aperture=0.03,
            b_factor=1263,  # motion of 4 Å
        ),
        detector=DetectorConfig(pixel_size=5.0, thickness=1800.0),
    )  # fmt: skip


def _czii() -> SimulationConfig:
    """Size and contents of the CZII phantom (Peck et al. 2025); dose and defocus are common values."""
    return SimulationConfig(
        species=tuple(CZII),
        scene=SceneConfig(shape=(184, 630, 630), voxel_size=10.012, slab=1500.0, counts=CZII),
        tilts=TiltConfig(
            scheme="dose-symmetric", range=(-45, 45), step=3, total_dose=100, defocus=(2.5, 4.5),
            defocus_spread=0.05, defocus_error=0.05, shift=3.0,
        ),
        reconstruction=ReconstructionConfig(phase_flip=True),
    )  # fmt: skip


def _toy() -> SimulationConfig:
    return SimulationConfig(
        species=("ribosome-80s", "proteasome-20s"),
        scene=SceneConfig(
            shape=(64, 128, 128), voxel_size=10.0, counts={"ribosome-80s": 8, "proteasome-20s": 20}
        ),
        tilts=TiltConfig(range=(-60, 60), step=3, total_dose=120, defocus=(3, 5)),
    )


def _example() -> SimulationConfig:
    """A small tomogram with particles of three sizes, a vesicle and gold, for `cryovox demo`."""
    counts = {"ribosome-80s": 10, "proteasome-20s": 16, "apo-ferritin": 16}
    return SimulationConfig(
        species=tuple(counts),
        scene=SceneConfig(
            shape=(64, 160, 160),
            voxel_size=12.0,
            slab=600.0,
            counts=counts,
            vesicles=VesicleConfig(count=1, radius=(180.0, 260.0)),
            fiducials=FiducialConfig(count=2),
        ),
        tilts=TiltConfig(range=(-60, 60), step=3, total_dose=120, defocus=(3, 4)),
    )


def _cell() -> SimulationConfig:
    """A crowded cytoplasm with membranes, for matching a tomogram of a cell."""
    counts = {"ribosome-80s": 50, "fatty-acid-synthase": 31, "proteasome-26s": 37, "tric": 62}
    return SimulationConfig(
        species=tuple(counts),
        scene=SceneConfig(
            shape=(128, 256, 256),
            voxel_size=10.0,
            slab=1200.0,
            counts=counts,
            vesicles=VesicleConfig(count=3, radius=(300.0, 500.0), protein_mass=1.0),
            sheets=SheetConfig(count=2, protein_mass=1.0),
        ),
        tilts=TiltConfig(range=(-60, 60), step=3, total_dose=120, defocus=(3, 5)),
    )


PRESETS: dict[str, SimulationConfig] = {
    "toy": _toy(),
    "example": _example(),
    "cell": _cell(),
    "shrec2021": _shrec2021(512, 10 * (165 + 344) / 2),
    "shrec2021-slab": _shrec2021(200, None),
    "czii-phantom": _czii(),
}
