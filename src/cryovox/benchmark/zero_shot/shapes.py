"""Domain generalization to shapes that the source lacks: 50 structures of the user.

The sources of Vox-UDA and Vox-ZSDA show 50 structures. Here they are the user's (`--data FOLDER`), atomic
models or maps: 35 of them are trained and 15 are tested, all as one class. Those beyond the 50 are kept for
choices, in `zsda-50-ablations`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.benchmark.adaptation.cubes import even_split, write_target
from cryovox.benchmark.adaptation.suite import AdaptationMethod, MethodsOfSize
from cryovox.benchmark.subtomograms import as_targets
from cryovox.benchmark.suite import Tier
from cryovox.benchmark.zero_shot.classes import SOURCE, TARGET, VALIDATION_TARGET, methods, variants
from cryovox.benchmark.zero_shot.suite import FIRST, ZeroShotSuite
from cryovox.core.errors import RequestError
from cryovox.formats import subtomograms as files
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.simulate.particles.template import Template
from cryovox.simulate.subtomograms import write_subtomograms
from cryovox.workflows.simulation.templates import known_names, templates

TRAINED, TESTED = 35, 15
MASS = (150.0, 800.0)
"""kDa; smaller particles cover less than 2 % of a cube."""
MAX_RADIUS = 130.0
"""Å; half of a cube."""
ALIKE = 0.03
"""Two shapes are the same if their masses and all principal radii of gyration differ by less than this."""
ORDER_SEED = 50
"""Of the order in which the structures are taken."""
COUNTS: dict[Tier, tuple[int, int]] = {"smoke": (1, 1), "cpu": (20, 20), "gpu": (300, 100)}
"""Subtomograms of each trained shape, and of each shape of a target."""
DOMAINS = (FIRST, "unseen, same microscope", "seen, other microscope")


class ShapesSuite(ZeroShotSuite):
    """Trained and unseen shapes of the user, under the microscope of the source and another one.

    Parameters
    ----------
    rows
        Function that returns the methods of a size.
    microscope
        Of the target.
    tested
        Whether the unseen shapes are those of the test, or those that are kept for choices.
    seed
        Of the source; the targets have the following ones.
    """

    def __init__(
        self,
        name: str,
        title: str,
        rows: MethodsOfSize,
        microscope: SubtomogramConfig,
        *,
        tested: bool,
        seed: int,
    ) -> None:
        super().__init__(name, title, rows, {})
        self.microscope, self.tested, self.seed = microscope, tested, seed

    def domain_names(self) -> tuple[str, ...]:
        return DOMAINS

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        if data is None:
            remedy = "name a folder of PDB, mmCIF or MRC files, or one with subfolders structures* and maps*"
            raise RequestError("--data", f"is missing, and {self.name} needs structures", remedy)
        shapes = read_shapes(data)
        trained, unseen = split_shapes(shapes, tested=self.tested)
        of_source, of_target = COUNTS[tier]
        sets = {
            AdaptationMethod.data: (trained, SOURCE, of_source),
            DOMAINS[0]: (unseen, self.microscope, of_target),
            DOMAINS[1]: (unseen, SOURCE, of_target),
            DOMAINS[2]: (trained, self.microscope, max(1, of_target // 2)),
        }
        for number, (name, (species, config, count)) in enumerate(sets.items()):
            path = folder / "simulated" / f"{name}.zarr"
            write_subtomograms(path, species, config, count * len(species), self.seed + number)
            simulated = as_targets(files.read(path))
            if name == AdaptationMethod.data:
                files.write(folder / f"{name}.zarr", simulated)
            else:
                write_target(folder, name, simulated, even_split(len(simulated)))
        facts = {"trained shapes": [t.name for t in trained], "unseen shapes": [t.name for t in unseen]}
        return {"folder": data.name, "shapes": len(shapes), "source": of_source, "target": of_target, **facts}


def read_shapes(folder: Path) -> list[Template]:
    """Templates of all distinct structures of suitable size, in alphabetical order.

    Searched are *folder* and its subfolders whose names begin with "structures" or "maps", in this order. Of
    files whose names agree up to the first underscore, the first suitable one counts; maps of several
    particles, and those that lack half of a known particle, do not.
    """
    parts = sorted(
        path for path in folder.glob("*") if path.is_dir() and path.name.startswith(("structures", "maps"))
    )
    kept: dict[str, Template] = {}
    for part in [folder, *sorted(parts, key=lambda path: path.name.startswith("maps"))]:
        for name in structure_names(part):
            key = name.lower().partition("_")[0]
            if key in kept:
                continue
            template = suitable_template(name, part)
            if template is not None and not any(alike(template, other) for other in kept.values()):
                kept[key] = template
    return [kept[key] for key in sorted(kept)]


def structure_names(folder: Path) -> list[str]:
    """Names of the structures and maps of a folder, none if it holds only others."""
    try:
        return known_names(folder)
    except RequestError:
        return []


def suitable_template(name: str, folder: Path) -> Template | None:
    """Template of one whole particle of suitable size, or None."""
    try:
        (template,) = templates([name], SOURCE.voxel_size, folder, SOURCE.resolution)
    except RequestError:
        return None
    fits = MASS[0] <= template.mass <= MASS[1] and template.radius <= MAX_RADIUS
    return template if fits and "doubt" not in template.facts else None


def alike(one: Template, other: Template) -> bool:
    """Whether two templates have the same mass and principal radii of gyration."""
    a, b = (np.array([t.mass, *principal_radii(t)]) for t in (one, other))
    return bool((np.abs(a - b) < ALIKE * np.maximum(a, b)).all())


def principal_radii(template: Template) -> NDArray[np.float64]:
    """Principal radii of gyration in voxels, ascending."""
    density = np.clip(template.density, 0, None).astype(np.float64)
    at = np.argwhere(density > 0)
    weights = density[density > 0]
    spread = np.cov(at.T, aweights=weights, ddof=0)
    radii: NDArray[np.float64] = np.sqrt(np.linalg.eigvalsh(spread))
    return radii


def split_shapes(shapes: Sequence[Template], *, tested: bool) -> tuple[list[Template], list[Template]]:
    """The trained shapes, and the unseen ones: those of the test, or those beyond."""
    if len(shapes) < TRAINED + TESTED:
        message = f"holds {len(shapes)} distinct structures of {MASS[0]:g} to {MASS[1]:g} kDa"
        raise RequestError("--data", message, f"give at least {TRAINED + TESTED}")
    order = np.random.default_rng(ORDER_SEED).permutation(len(shapes))
    shuffled = [shapes[i] for i in order]
    first = TRAINED if tested else TRAINED + TESTED
    if not (unseen := shuffled[first : first + TESTED]):
        raise RequestError(
            "--data", f"holds only {len(shapes)} structures", "add some that are kept for choices"
        )
    return shuffled[:TRAINED], unseen


SHAPES = ShapesSuite(
    "zsda-50",
    "Domain generalization to unseen shapes among 50 structures",
    methods,
    TARGET,
    tested=True,
    seed=2300,
)
ABLATIONS = ShapesSuite(
    "zsda-50-ablations",
    "Ablations of Vox-ZSDA on unseen shapes",
    variants,
    VALIDATION_TARGET,
    tested=False,
    seed=2400,
)
ABLATIONS.reference = "heavy-augmentation"
