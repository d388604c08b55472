"""Poses at known positions: rotations and small shifts searched in a box around each particle, and refined.

The score is that of :mod:`cryovox.inference.matching`. The boxes of many particles are compared with many
rotated templates in one matrix product, so the cost depends on the number of particles, not on the tomogram.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryovox.core.intensity import Normalization
from cryovox.core.progress import ProgressCallback, no_progress, portion
from cryovox.core.volume import Voxels
from cryovox.inference.correlation import Block, block_image
from cryovox.inference.matching import MIN_VARIANCE
from cryovox.inference.search_template import SearchTemplate
from cryovox.picking.peaks import fit

BATCH_ROTATIONS = {"cpu": 64, "cuda": 512, "mps": 256}
"""Templates that are rotated, or compared, at once. On a CPU they stay in its caches."""
BATCH_VALUES = {"cpu": 1 << 24, "cuda": 1 << 28, "mps": 1 << 26}
"""Gray values that are compared at once."""
CANDIDATES = 3
"""Rotations of each particle that are refined."""
NEAR = 0.95
"""Score of a rotation over that of the best, below which it is not refined."""
LEVELS = (1, 1 / 2, 1 / 4, 1 / 8)
"""Distance of the rotations that a refinement compares, over the step of the search; one entry a round. The
best of the searched rotations is often not the nearest one, so the first round reaches beyond it."""
COMPARED = 1 / 2
"""The same where the best rotations of a particle are compared; the refinement goes on below it."""
_AXES = np.concatenate([np.eye(3), -np.eye(3)])
_CORNERS = np.array(list(product((-0.5, 0.5), repeat=3)))
_FACES = np.concatenate([np.zeros((1, 3)), _AXES])
_MIDDLE = 13
_NEIGHBORS = np.concatenate([_FACES, _CORNERS / np.linalg.norm(_CORNERS[0])])


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of n particles.

    Attributes
    ----------
    positions : (n, 3) float64
        (z, y, x) in voxels.
    rotations : (n, 3, 3) float64
        Active, reference to tomogram, acting on (x, y, z) columns.
    scores : (n,) float32
        Correlation coefficient at the nearest voxel.
    """

    positions: NDArray[np.float64]
    rotations: NDArray[np.float64]
    scores: NDArray[np.float32]

    def at(self, index: NDArray[np.intp]) -> Poses:
        """Of some of the particles."""
        return Poses(self.positions[index], self.rotations[index], self.scores[index])

    def updated(self, index: NDArray[np.intp], poses: Poses) -> Poses:
        """With other poses of some of the particles."""
        positions, rotations, scores = self.positions.copy(), self.rotations.copy(), self.scores.copy()
        positions[index], rotations[index], scores[index] = poses.positions, poses.rotations, poses.scores
        return Poses(positions, rotations, scores)


class PoseSearch:
    """Search of poses in one tomogram.

    Parameters
    ----------
    data : (z, y, x)
        Raw gray values; only the boxes are read.
    normalize
        To mean 0, standard deviation 1, bright particles.
    """

    def __init__(
        self, data: Voxels, normalize: Normalization, template: SearchTemplate, device: str = "cpu"
    ) -> None:
        self.data, self.normalize, self.template, self.device = data, normalize, template, device
        self.batch = BATCH_ROTATIONS[torch.device(device).type]
        inside = np.flatnonzero(template.mask)
        self.voxels = torch.as_tensor(inside, device=device)
        weights = template.mask.ravel()[inside]
        self.weights = torch.as_tensor(weights / weights.sum(), device=device)

    def locate(
        self,
        positions: NDArray[np.float64],
        rotations: NDArray[np.float64],
        step: float,
        reach: int = 0,
        on_progress: ProgressCallback = no_progress,
    ) -> Poses:
        """Poses of particles whose rotation is unknown, and whose position is known roughly.

        The `CANDIDATES` best rotations of each particle, if their scores are near, are compared after a short
        round of refinement.

        Parameters
        ----------
        positions : (n, 3)
            (z, y, x) in voxels.
        rotations : (r, 3, 3)
            Rotations to compare: every rotation lies within *step* of one of them.
        step
            In degrees.
        reach
            Maximum shift along each axis in voxels, before the refinement.
        """
        if not len(positions):
            return Poses(np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros(0, np.float32))
        candidates = self.search(positions, rotations, reach, CANDIDATES, portion(on_progress, 0.0, 0.4))
        poses = self._compared(candidates, COMPARED * step)
        levels = tuple(level for level in LEVELS if level < COMPARED)
        return self.refine(poses, step, levels=levels, on_progress=portion(on_progress, 0.7, 1.0))

    def _compared(self, candidates: list[Poses], angle: float) -> Poses:
        """The best candidate of each particle after a round of refinement by an angle in degrees."""
        best = candidates[0]
        least = NEAR * best.scores
        for poses in candidates:
            near = np.flatnonzero(poses.scores >= least)
            if not len(near):
                break
            moved = self._turned(poses.at(near), angle)
            better = moved.scores > best.scores[near]
            best = best.updated(near[better], moved.at(np.flatnonzero(better)))
        return best

    def _turned(self, poses: Poses, angle: float) -> Poses:
        """The best of turns by an angle about the axes and the vertex of parabolas through their scores."""
        moved, values = self._best(poses, _turns(angle, _FACES), self._voxels(poses.positions))
        rotations = _vertices(values.max(axis=2), angle) @ poses.rotations
        scores = self._scores(self._voxels(moved.positions), rotations[:, None])[:, 0, _MIDDLE]
        better = np.flatnonzero(scores > moved.scores)
        vertices = Poses(moved.positions, rotations, scores.astype(np.float32))
        return moved.updated(better, vertices.at(better))

    def search(
        self,
        positions: NDArray[np.float64],
        rotations: NDArray[np.float64],
        reach: int = 0,
        count: int = 1,
        on_progress: ProgressCallback = no_progress,
    ) -> list[Poses]:
        """The *count* best of the rotations of each particle at its best voxel, best first.

        Parameters
        ----------
        positions, rotations, reach
            As in :meth:`locate`.
        """
        centers = self._voxels(positions)
        boxes = self._boxes(centers, reach)
        kernels = self._kernels(rotations, portion(on_progress, 0.0, 0.5))
        tops = []
        for part in self._parts(len(centers), len(self.voxels) * (2 * reach + 1) ** 3):
            values, shifts = self._over_shifts(self._windows(boxes[part]), kernels)
            best, index = values.topk(min(count, len(rotations)), dim=1)
            tops.append((best, index, shifts.gather(1, index)))
            on_progress("poses", 0.5 + 0.5 * part.stop / len(centers))
        scores, turn, moves = (torch.cat(column).cpu().numpy().T for column in zip(*tops, strict=True))
        moved = (centers + _shifts(reach)[moves]).astype(float)
        return [Poses(*parts) for parts in zip(moved, rotations[turn], scores, strict=True)]

    def refine(
        self,
        poses: Poses,
        step: float,
        reach: int = 1,
        levels: tuple[float, ...] = LEVELS,
        on_progress: ProgressCallback = no_progress,
    ) -> Poses:
        """Poses between the rotations of a search, and positions between voxels.

        Each round compares 6 rotations around the best one, and 14 at the full step, at the best voxel and
        those beside it, and then moves to the best of both; rotations move to the vertex of a parabola along
        each axis. In the end a Gaussian is fitted to the scores of the 27 voxels.

        Parameters
        ----------
        step
            Of the search, in degrees.
        reach
            Largest shift along each axis from where a particle began, in voxels.
        levels
            Distances of the rotations that are compared, over the step.
        """
        if not len(poses.positions):
            return poses
        start = self._voxels(poses.positions)
        for done, level in enumerate(levels):
            before, axes = poses.rotations, _NEIGHBORS if level == 1 else _FACES
            poses, values = self._best(poses, _turns(level * step, axes), start, reach)
            over_shifts = values.max(axis=2)
            is_between = over_shifts.argmax(axis=1) < len(_FACES)
            between = _vertices(over_shifts[:, : len(_FACES)], level * step) @ before
            poses = replace(poses, rotations=np.where(is_between[:, None, None], between, poses.rotations))
            on_progress("refinement", (done + 1) / (len(levels) + 1))
        centers = self._voxels(poses.positions)
        around = self._scores(centers, poses.rotations[:, None])[:, 0]
        on_progress("refinement", 1.0)
        return Poses(centers + fit(around), poses.rotations, around[:, _MIDDLE].astype(np.float32))

    def _best(
        self, poses: Poses, turns: NDArray[np.float64], start: NDArray[np.intp], reach: int = 1
    ) -> tuple[Poses, NDArray[np.float64]]:
        """Best turn and shift by a voxel for each particle, and the scores of :meth:`_scores`.

        Voxels that are more than *reach* away from *start* are not chosen.
        """
        centers, each = self._voxels(poses.positions), np.arange(len(poses.positions))
        rotations = np.einsum("kij,pjl->pkil", turns, poses.rotations)
        moves = centers[:, None] + _shifts(1)
        too_far = np.where(np.abs(moves - start[:, None]).max(axis=2) > reach, -np.inf, 0.0)
        values = self._scores(centers, rotations)
        near = (values + too_far[:, None]).reshape(len(values), -1)
        turn, shift = np.unravel_index(near.argmax(axis=1), values.shape[1:])
        best = values[each, turn, shift].astype(np.float32)
        return Poses(moves[each, shift].astype(float), rotations[each, turn], best), values

    def _scores(self, centers: NDArray[np.intp], rotations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores (n, k, 27) of rotations (n, k, 3, 3) of each particle at its voxel and those around it."""
        count = rotations.shape[1]
        boxes, values = self._boxes(centers, 1), np.zeros((len(centers), count, 27))
        for part in self._parts(len(centers), 27 * len(self.voxels) + count * self.template.box**3):
            kernels = self._kernels(rotations[part].reshape(-1, 3, 3))
            kernels = kernels.reshape(-1, count, kernels.shape[-1])
            values[part] = torch.einsum("psv,pkv->pks", self._windows(boxes[part]), kernels).cpu().numpy()
        return values

    def _voxels(self, positions: NDArray[np.float64]) -> NDArray[np.intp]:
        """Nearest voxels of the tomogram."""
        last = np.asarray(self.data.shape) - 1
        return np.clip(np.rint(positions), 0, last).astype(np.intp).reshape(-1, 3)

    def _boxes(self, centers: NDArray[np.intp], reach: int) -> Tensor:
        """Images (n, m, m, m) that the template covers at the shifts of each particle."""
        edge = self.template.mask.shape[0] + 2 * reach
        images = np.zeros((len(centers), edge, edge, edge), np.float32)
        size = (2 * reach + 1,) * 3
        for number, (z, y, x) in enumerate((centers - reach).tolist()):
            block = Block((z, y, x), size, size, size)
            images[number] = block_image(self.data, self.normalize, self.template, block).numpy()
        return torch.from_numpy(images).to(self.device)

    def _windows(self, boxes: Tensor) -> Tensor:
        """Normalized gray values (n, s, v) under the mask at each shift."""
        n = self.template.mask.shape[0]
        windows = boxes.unfold(1, n, 1).unfold(2, n, 1).unfold(3, n, 1)
        values = windows.flatten(4).flatten(1, 3)[..., self.voxels]
        centered = values - (values @ self.weights)[..., None]
        variance = centered.square() @ self.weights
        scale = torch.where(variance < MIN_VARIANCE, 0.0, variance.clamp(min=MIN_VARIANCE).rsqrt())
        return centered * scale[..., None]

    def _over_shifts(self, windows: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Best score and shift (n, k) of each particle for each template."""
        parts = [
            torch.einsum("psv,kv->pks", windows, batch).max(dim=2) for batch in kernels.split(self.batch)
        ]
        return torch.cat([part[0] for part in parts], dim=1), torch.cat([part[1] for part in parts], dim=1)

    def _kernels(self, rotations: NDArray[np.float64], on_progress: ProgressCallback = no_progress) -> Tensor:
        """Rotated templates (r, v) under the mask."""
        kernels = torch.empty(len(rotations), len(self.voxels), device=self.device)
        for first in range(0, len(rotations), self.batch):
            part = slice(first, first + self.batch)
            rotated = self.template.rotated(rotations[part], self.device)
            kernels[part] = rotated.flatten(1)[:, self.voxels]
            on_progress("poses", min(1.0, part.stop / len(rotations)))
        return kernels

    def _parts(self, count: int, each: int) -> Iterator[slice]:
        """Particles that are compared at once, by the number of values that each needs."""
        size = max(1, BATCH_VALUES[torch.device(self.device).type] // each)
        for first in range(0, count, size):
            yield slice(first, min(first + size, count))


def _vertices(scores: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rotations (n, 3, 3) at the maxima of parabolas through the scores (n, 7) of `_FACES`.

    Parameters
    ----------
    angle
        Of the compared turns in degrees; the maximum is at most so far from none.
    """
    ahead, behind = scores[:, 1:4], scores[:, 4:7]
    curvature, slope = 2 * scores[:, :1] - ahead - behind, ahead - behind
    vertex = slope / np.where(curvature > 0, 2 * curvature, 1.0)
    vertex = np.where(curvature > 0, np.clip(vertex, -1, 1), np.sign(slope))
    return Rotation.from_rotvec(np.deg2rad(angle) * vertex).as_matrix()


def _turns(angle: float, axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations by an angle in degrees about each axis; none for an axis of length 0."""
    return Rotation.from_rotvec(np.deg2rad(angle) * axes).as_matrix()


def _shifts(reach: int) -> NDArray[np.intp]:
    """All shifts by up to *reach* voxels, in the order of the windows."""
    at = range(-reach, reach + 1)
    return np.array(list(product(at, repeat=3)), dtype=np.intp)
