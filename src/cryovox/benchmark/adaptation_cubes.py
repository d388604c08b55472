"""Adaptation on subtomograms: structures that the source does not know, under another microscope.

Protocol A of Vox-UDA (AAAI 2025) with a simulated target in place of the experimental ones, which are handed
out on request; `--data` takes those. 85 % and 15 % of the target are told apart by every suite: all of it
is learned from without labels, "held out" are the scores on 15 %, "all" those on everything. What
`target-supervised` says of "all" is flattered, since it has seen the labels of 85 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryovox.benchmark.adaptation import (
    NETWORK,
    PUBLISHED,
    SOURCE_ONLY,
    VOX_UDA,
    AdaptationSuite,
    Adapter,
    Material,
    Parts,
    Rows,
    rows,
    smoke,
)
from cryovox.benchmark.subtomograms import (
    blobs,
    bright,
    images,
    masks,
    scores,
    simulated,
    targets,
)
from cryovox.benchmark.suite import Budget, Plan, Scores, Tier
from cryovox.core.errors import RequestError
from cryovox.formats import subtomograms as files
from cryovox.formats.layouts import folder as pairs
from cryovox.formats.layouts import xulab
from cryovox.formats.layouts.split import by_volume
from cryovox.formats.subtomograms import Subtomograms
from cryovox.simulate.config.subtomograms import SubtomogramConfig
from cryovox.workflows.devices import Device

SEEN = ("beta-galactosidase", "p97", "thyroglobulin", "proteasome-20s", "groel", "ribosome-70s", "hsp90",
        "ribosome-80s")  # fmt: skip
UNSEEN = ("apo-ferritin", "rubisco", "tric")
"""No larger and no smaller than those of the source: what a network does not know of them is their shape,
not how much of a cube is particle, which no way to adapt could tell it (decision 0013)."""
SHARE = 0.15
NOISES = (0.05, 0.03, float("inf"))
OFFSET = 0.06
"""Subtomograms are cut out where particles were picked. Within the quarter of a box of the 2018 recipe
so little can be learned that there is nothing to lose (decision 0012)."""
SOURCE = SubtomogramConfig(snr=NOISES[0], offset=OFFSET)
ELSEWHERE = SubtomogramConfig(snr=0.02, defocus=3.0, tilt=40.0, resolution=25.0, envelope=1.0, offset=OFFSET)
"""Another microscope: more noise, and of higher frequencies; more detail, less defocus, a wider wedge."""
NOISY = SubtomogramConfig(snr=0.01, offset=OFFSET)
"""The most noise of Liu et al. 2018, as far as the names of their files tell."""


@dataclass(frozen=True)
class Scale:
    """How much data a tier has: species, and subtomograms of each."""

    seen: tuple[str, ...] = SEEN
    unseen: tuple[str, ...] = UNSEEN
    source: int = 100
    target: int = 100


SCALES: dict[Tier, Scale] = {
    "smoke": Scale(SEEN[:2], UNSEEN[:1], source=4, target=8),
    "cpu": Scale(),
    "gpu": Scale(source=500, target=400),
}
Make = Callable[[Path, Scale], Subtomograms]


def unseen(folder: Path, scale: Scale) -> Subtomograms:
    """Structures that the source does not know, under another microscope."""
    return simulated(folder / "target.zarr", scale.unseen, ELSEWHERE, scale.target, 300)


def alike(folder: Path, scale: Scale) -> Subtomograms:
    """Other subtomograms drawn as those of the source."""
    return simulated(folder / "same.zarr", scale.seen, SOURCE, scale.target, 400)


def noisy(folder: Path, scale: Scale) -> Subtomograms:
    """The structures of the source with more noise."""
    return simulated(folder / "noisy.zarr", scale.seen, NOISY, scale.target, 500)


def empty(folder: Path, scale: Scale) -> Subtomograms:
    """The noise of the target, and nothing in it.

    Sets of one seed show the same scenes: the one without noise is taken from the one with it.
    """
    clean = ELSEWHERE.model_copy(update={"snr": float("inf")})
    with_noise, without = (
        simulated(folder / f"empty-{c.snr:g}.zarr", scale.unseen, c, scale.target, 600)
        for c in (ELSEWHERE, clean)
    )
    return replace(with_noise, images=images(with_noise) - images(without), masks=0 * masks(with_noise))


def compared(size: str) -> tuple[Adapter, ...]:
    """All contestants on one source, and the two that matter most on the others."""
    more = [
        Adapter(f"{name}, SNR {snr:g}", NETWORK, size, data=f"source, SNR {snr:g}", strategy=name)
        for snr in NOISES[1:]
        for name in (SOURCE_ONLY, VOX_UDA)
    ]
    return (*rows(size), *more)


PARTS: dict[str, dict[str, Any]] = {
    "no NGM": {"ngm": False},
    "no denoiser": {"denoiser": "none"},
    "no consistency": {"consistency": False},
    "no adversary": {"adversarial": False},
    "no pseudo-labels": {"pseudo": False},
    **{f"threshold {eta:g}": {"threshold": eta} for eta in (0.7, 0.8, 0.9, 0.95)},
    "denoiser ngm": {"denoiser": "ngm"},
    "denoiser bf": {"denoiser": "bf"},
    **{f"range of the filter {sigma:g}": {"sigma_r": sigma} for sigma in (5.0, 12.0)},
    "one threshold for all": {"fair": False},
    "teacher 0.99": {"teacher_decay": 0.99},
    "white noise": {"noise_kind": "white"},
    "noisy source not judged": {"learn_noisy": False},
    "statistics of both domains": {"target_statistics": False},
}
"""One thing changed in Vox-UDA."""
NOISE: dict[str, dict[str, Any]] = {
    "": {},
    **{f", cube {k} of 32": {"cube": k / 32} for k in (14, 18, 24)},
    ", keep outer": {"reading": "keep-outer"},
    ", keep highest": {"reading": "keep-highest"},
    **{f", sampled {n}": {"sampled": n} for n in (5, 15, 20)},
    ", averaged": {"noise_mode": "averaged"},
    ", rms": {"noise_mode": "rms"},
}
"""One thing changed in the noise of Vox-UDA as published: cube 20 of 32, 10 samples, mean."""
VARIANTS: dict[str, dict[str, Any]] = {
    VOX_UDA: {},
    **PARTS,
    **{f"as published{name}": PUBLISHED | changed for name, changed in NOISE.items()},
}


def variants(size: str) -> tuple[Adapter, ...]:
    """The source alone, and Vox-UDA with one thing changed, as it comes and as published."""
    changed = (
        Adapter(name, NETWORK, size, strategy=VOX_UDA, adapting={f"own.{k}": v for k, v in own.items()})
        for name, own in VARIANTS.items()
    )
    return (*changed, Adapter(SOURCE_ONLY, NETWORK, size))


HARD: dict[str, Make] = {"target is source": alike, "nothing in it": empty}


def risky(size: str) -> tuple[Adapter, ...]:
    """Vox-UDA and one of each family, where there is nothing to be gained."""
    names = (VOX_UDA, "dann", "advent", "coral", "mean-teacher", "fixmatch")
    asked = tuple(
        Adapter(f"{name}, {target}", NETWORK, size, strategy=name, target=target)
        for target in HARD
        for name in names
    )
    *_, nothing = HARD
    blind = {"stages.beside_noise": 0}
    told = f"{VOX_UDA}, {nothing}, noise not asked"
    return (*asked, Adapter(told, NETWORK, size, strategy=VOX_UDA, target=nothing, adapting=blind))


class CubeSuite(AdaptationSuite):
    """Subtomograms with one target each.

    Parameters
    ----------
    contestants
        Gives the rows of a size.
    targets
        How each target is simulated.
    noises
        Ratios of signal to noise of the sources, the usual one first.
    """

    headlines: tuple[str, ...] = ("iou", "dice", "mean_iou_per_sample")

    def __init__(
        self,
        name: str,
        title: str,
        source: str,
        contestants: Rows,
        targets: dict[str, Make],
        noises: tuple[float, ...] = NOISES[:1],
    ) -> None:
        self.name, self.title, self.source, self.contestants = name, title, source, contestants
        self.targets, self.noises = targets, noises

    def plan(self, tier: Tier) -> Plan:
        if tier == "smoke":
            return smoke(self.contestants("xs"))
        if tier == "cpu":
            return Plan(self.contestants("xs"), (Budget(time="3m"),))
        return Plan(self.contestants("paper"), (Budget(time="9m"),))

    def prepare(self, folder: Path, tier: Tier, data: Path | None) -> dict[str, Any]:
        if data is not None:
            return self._given(folder, data)
        scale, made = SCALES[tier], folder / "simulated"
        for i, snr in enumerate(self.noises):
            config = SOURCE.model_copy(update={"snr": snr})
            found = simulated(made / f"source-{snr:g}.zarr", scale.seen, config, scale.source, i)
            files.write(folder / f"{f'source, SNR {snr:g}' if i else Adapter.data}.zarr", found)
        for name, make in self.targets.items():
            found = make(made, scale)
            share_out(folder, name, found, spread(len(found)))
        return {
            "stand-in": "simulated by `cryovox simulate --preset subtomogram-50`'s recipe",
            **asdict(scale),
        }

    def _given(self, folder: Path, data: Path) -> dict[str, Any]:
        """The user's `source` and `target`: image-and-mask folders, HDF5 files of the Xu lab, or sets."""
        source, target = (opened(data, name) for name in ("source", "target"))
        facts = {"source_voxel_size": source.voxel_size, "target_voxel_size": target.voxel_size}
        target = replace(target, voxel_size=source.voxel_size)  # what counts is the edge in voxels, as there
        files.write(folder / f"{Adapter.data}.zarr", targets(source))
        for name in self.of_the_user():
            share_out(folder, name, targets(target), held_out(target))
        return {"folder": data.name, "source": len(source), "target": len(target), **facts}

    def of_the_user(self) -> tuple[str, ...]:
        """Targets that the user's stands for."""
        return tuple(self.targets)

    def material(self, row: Adapter, folder: Path) -> Material:
        bare = folder / f"{row.target}-unlabelled.zarr"
        return Material(folder / f"{row.data}.zarr", (bare,), folder / f"{row.target}-train.zarr")

    def score(self, model: Path, row: Adapter, folder: Path, out: Path, device: Device) -> Parts:
        from cryovox.workflows.segment import label_set

        found, truth = (files.read(folder / f"{row.target}{part}.zarr") for part in ("-unlabelled", ""))
        return by_part(label_set(model, found, device), masks(truth), folder, row.target)

    def references(self, folder: Path) -> dict[str, Scores]:
        """What needs no training, on the only target."""
        if len(self.targets) > 1:
            return {}
        (name,) = self.targets
        whole = files.read(folder / f"{name}.zarr")
        floor = by_part(blobs(bright(whole)), masks(whole), folder, name)
        named = {", ".join(filter(None, ("chosen", part))): dict(row) for part, row in floor.items()}
        return {"floor: threshold, no training": named}


class SafetySuite(CubeSuite):
    """Targets on which adapting cannot help; counts how often the rule knew."""

    headlines = ("right", "took adapted", "lost", "mean_iou_per_sample")
    reference = ""
    judged = "mean_iou_per_sample"  # the only one that knows what to say of nothing


def by_part(found: NDArray[Any], truth: NDArray[Any], folder: Path, target: str) -> Parts:
    """Scores on what was held out, which comes last in the set, and on all."""
    learned = len(files.read(folder / f"{target}-train.zarr"))
    return {"": scores(found[learned:], truth[learned:]), "all": scores(found, truth)}


def share_out(folder: Path, name: str, found: Subtomograms, held: NDArray[np.bool_]) -> None:
    """Write a target: all of it, with what is held out at the end; without labels; and the rest."""
    order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
    whole = chosen(found, order)
    files.write(folder / f"{name}.zarr", whole)
    files.write(folder / f"{name}-unlabelled.zarr", replace(whole, masks=None))
    files.write(folder / f"{name}-train.zarr", chosen(found, order[: int((~held).sum())]))


def chosen(found: Subtomograms, which: NDArray[np.intp]) -> Subtomograms:
    """Some subtomograms of a set, in that order."""
    return replace(
        found,
        images=images(found)[which],
        masks=masks(found)[which],
        particles=found.particles.take(which),
        corners=None if found.corners is None else found.corners[which],
    )


def spread(count: int, share: float = SHARE) -> NDArray[np.bool_]:
    """Hold out a share, spread evenly, and hence over species that stand one after another.

    Examples
    --------
    >>> np.flatnonzero(spread(20)).tolist()
    [6, 13, 19]
    """
    steps = np.floor((np.arange(count) + 1) * share + 1e-9)
    held: NDArray[np.bool_] = np.diff(steps, prepend=0) > 0
    if not held.any():
        held[-1] = True
    return held


def held_out(found: Subtomograms) -> NDArray[np.bool_]:
    """Hold out as the set says, else whole tomograms where there are enough, else what is spread."""
    said, names = found.particles.extra.get("split"), found.particles.tomograms
    if said is not None:
        return np.asarray(said) == "test"
    if names is not None and len(set(names)) * SHARE >= 1:
        split = by_volume(set(names), SHARE)
        return np.array([split[name] == "test" for name in names])
    return spread(len(found))


def opened(data: Path, name: str) -> Subtomograms:
    """The user's set of that name, with masks; volumes are cut into cubes of 32."""
    for ending in (".zarr", *files.HDF5):
        if (data / f"{name}{ending}").exists():
            return files.read(data / f"{name}{ending}")
    inside = data / name
    if xulab.is_here(inside):
        return xulab.read(inside)
    if pairs.is_here(inside):
        return pairs.read_patches(inside)
    told = f"holds no {name}.zarr, and no folder {name}/ of volumes with masks"
    raise RequestError(data, told, "see docs/how-to/compare-adaptation.md for the layout")


UDA = CubeSuite(
    "uda",
    "Adaptation from simulated subtomograms to unseen structures under another microscope",
    "Vox-UDA (AAAI 2025), with a simulated target; baselines of our choice",
    compared,
    {"target": unseen},
    NOISES,
)
TRANSFER = CubeSuite(
    "uda-snr",
    "Adaptation from subtomograms without noise to noisy ones",
    "SNR transfer of Liu et al. 2018 in public ports (0.01 is our reading)",
    rows,
    {"target": noisy},
    (float("inf"),),
)
ABLATIONS = CubeSuite(
    "uda-ablations",
    "Ablations of Vox-UDA",
    "Vox-UDA (AAAI 2025), ablations, with a simulated target",
    variants,
    {"target": unseen},
)
ABLATIONS.reference, ABLATIONS.compared = VOX_UDA, ("adapted",)
SAFETY = SafetySuite(
    "uda-safety",
    "Whether the rule that chooses knows when adapting does not help",
    "our own",
    risky,
    HARD,
)
