"""Template matching: masked, locally normalized cross-correlation over a grid of rotations.

The score at a voxel is the Pearson correlation of the tomogram with the rotated template under a spherical
mask (Roseman, Acta Cryst. D56 (2000) 1332; Ultramicroscopy 94 (2003) 225), computed with Fourier transforms.
The template has the missing wedge, the CTF and the filters of the tomogram. Large tomograms are searched in
blocks that overlap by the template, so scores do not depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

from cryovox.core.intensity import Normalization
from cryovox.core.progress import ProgressCallback, no_progress
from cryovox.core.volume import Voxels
from cryovox.inference.membranes import AxisCone

Shape = tuple[int, int, int]
AXES = (-3, -2, -1)
MIN_VARIANCE = 1e-6
"""Local variance, relative to that of the tomogram, below which the score is 0: empty regions."""
MIN_DENSITY = 1e-4
"""Density, relative to the highest, below which a voxel of a template is taken as empty."""
BLOCK_VOXELS = 1 << 24
"""Voxels of a block with its margins; about 30 bytes are held for each."""
BATCH_VOXELS = {"cpu": 1 << 22, "cuda": 1 << 27, "mps": 1 << 25}
"""Voxels transformed at once, for several rotations of small blocks."""


class _Copy(NamedTuple):
    """A template on a device.

    Attributes
    ----------
    density, transfer
        As of :class:`SearchTemplate`.
    weights : (n, n, n)
        Mask with the sum 1.
    points : (p, 3)
        (x, y, z) of the voxels of the box that the density reaches in some rotation, in the coordinates of
        `grid_sample`.
    inside : (p,)
        Their indices in the box.
    """

    density: Tensor
    transfer: Tensor
    weights: Tensor
    points: Tensor
    inside: Tensor


@dataclass(frozen=True, eq=False)
class SearchTemplate:
    """A template with all that turns it into what the tomogram shows.

    Attributes
    ----------
    density : (k, k, k) float32
        Bright particle around the center of the middle voxel; k is odd.
    oversampling
        Voxels of the density per voxel of the tomogram. Rotation interpolates linearly, so 2 or more.
    radius
        Radius of the spherical mask in voxels of the tomogram.
    transfer : (m, m, m // 2 + 1) float32
        Filter on the `rfftn` of a box with an odd edge m (see :func:`filter_box`): wedge, CTF, and
        `whitening`.
    whitening : (m, m, m // 2 + 1) float32 or None
        Filter of the tomogram, applied as a convolution with a kernel of the size of that box.
    """

    density: NDArray[np.float32]
    oversampling: float
    radius: float
    transfer: NDArray[np.float32]
    whitening: NDArray[np.float32] | None = None

    @property
    def box(self) -> int:
        """Edge m of the box in which the template is filtered."""
        return int(self.transfer.shape[0])

    @cached_property
    def mask(self) -> NDArray[np.float32]:
        """Weights (n, n, n) of the spherical mask."""
        return spherical_mask(self.radius)

    @property
    def margin(self) -> int:
        """Voxels around a position on which its score depends."""
        return self.mask.shape[0] // 2 + (0 if self.whitening is None else self.box // 2)

    @cached_property
    def _copies(self) -> dict[str, _Copy]:
        return {}

    def _on(self, device: str) -> _Copy:
        if device not in self._copies:
            weights = self.mask / self.mask.sum()
            points, inside = _support(self.density, self.box, self.oversampling)
            arrays = (self.density, self.transfer, weights, points, inside)
            self._copies[device] = _Copy(*(torch.as_tensor(array, device=device) for array in arrays))
        return self._copies[device]

    def rotated(self, rotations: NDArray[np.float64] | Tensor, device: str = "cpu") -> Tensor:
        """Filtered, masked and normalized templates: (b, n, n, n).

        The sum over a template is 0, and its sum with an image of mean 0 and variance 1 under the mask is
        their correlation coefficient.

        Parameters
        ----------
        rotations : (b, 3, 3)
            Active, reference to tomogram, acting on (x, y, z) columns.
        """
        copy = self._on(device)
        weights = copy.weights
        boxes = _rotate(copy, torch.as_tensor(rotations, dtype=torch.float32, device=device), self.box)
        spectra = torch.fft.rfftn(boxes, dim=AXES).mul_(copy.transfer)
        boxes = torch.fft.irfftn(spectra, s=boxes.shape[-3:], dim=AXES)
        cut = (self.box - self.mask.shape[0]) // 2
        boxes = boxes[:, cut : self.box - cut, cut : self.box - cut, cut : self.box - cut]
        centered = boxes - (boxes * weights).sum(AXES, keepdim=True)
        std = (centered.square() * weights).sum(AXES, keepdim=True).sqrt()
        return centered * weights / std


@dataclass(frozen=True)
class Block:
    """A part of the tomogram that is searched at once.

    Attributes
    ----------
    start, size : (z, y, x)
        Voxels whose scores are computed.
    fft : (z, y, x)
        Size of the Fourier transforms: at least `size` with the margins.
    lead : (z, y, x)
        Margin before the first voxel. Where the block reaches from face to face it is 0: zeros lie beyond
        both faces, and in a cyclic transform those behind the last voxel also lie before the first.
    """

    start: Shape
    size: Shape
    fft: Shape
    lead: Shape

    @property
    def inner(self) -> tuple[slice, ...]:
        """Its voxels in the tomogram."""
        return self.around(0)

    def around(self, margin: int) -> tuple[slice, ...]:
        """Its voxels in the tomogram, and those within a margin."""
        return tuple(
            slice(max(0, s - margin), s + n + margin) for s, n in zip(self.start, self.size, strict=True)
        )


def match(  # noqa: PLR0913 (settings of a search)
    data: Voxels,
    normalize: Normalization,
    template: SearchTemplate,
    rotations: NDArray[np.float64],
    *,
    mask: NDArray[np.bool_] | None = None,
    cone: AxisCone | None = None,
    block_voxels: int = BLOCK_VOXELS,
    device: str = "cpu",
    on_progress: ProgressCallback = no_progress,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Search a tomogram for a template.

    Parameters
    ----------
    data : (z, y, x)
        Raw gray values, read block by block; 0 in normalized values continues the tomogram beyond its faces.
    normalize
        To mean 0, standard deviation 1, bright particles.
    rotations : (r, 3, 3)
        Active, reference to tomogram, acting on (x, y, z) columns.
    mask : (z, y, x) or None
        Blocks whose voxels are all false, and their neighbors too, are skipped and score 0.
    cone
        Directions of the z axis of the template that are allowed at each voxel; where none is, the score
        is 0.
    block_voxels
        Maximum number of voxels of a Fourier transform. Changes memory and speed, not the result.

    Returns
    -------
    scores : (z, y, x) float32
        Highest correlation coefficient over the rotations, -1 to 1.
    best : (z, y, x) int32
        Index of its rotation.
    """
    z, y, x = data.shape
    # a filter spreads gray values beyond the faces, so that both sides need their margins
    wraps = template.whitening is None
    scores, best = np.zeros((z, y, x), np.float32), np.zeros((z, y, x), np.int32)
    blocks = [
        block
        for block in plan_blocks((z, y, x), template.margin, block_voxels, wraps=wraps)
        if mask is None or mask[block.around(1)].any()
    ]
    for number, block in enumerate(blocks):
        part_of_cone = None if cone is None else cone.within(block.inner)
        search = _BlockSearch(data, normalize, template, block, device, part_of_cone)
        for done in search.run(rotations):
            part = (number + done / len(rotations)) / len(blocks)
            on_progress("rotations", part, f"block {number + 1} of {len(blocks)}")
        scores[block.inner], best[block.inner] = search.result()
    return scores, best


def plan_blocks(shape: Shape, margin: int, voxels: int, *, wraps: bool = True) -> list[Block]:
    """Split a volume into blocks whose Fourier transforms have at most about *voxels* voxels.

    Parameters
    ----------
    wraps
        Leave out the margin before the first voxel of blocks from face to face: see :class:`Block`.
    """
    parts = [1, 1, 1]
    while True:
        sizes = [ceil(n / k) for n, k in zip(shape, parts, strict=True)]
        leads = [0 if wraps and k == 1 else margin for k in parts]
        sums = [size + margin + lead for size, lead in zip(sizes, leads, strict=True)]
        fft = [next_fast_len(n, real=True) for n in sums]
        divisible = [a for a in range(3) if sizes[a] > 2 * margin + 1]
        if prod(fft) <= voxels or not divisible:
            break
        parts[max(divisible, key=lambda a: fft[a])] += 1
    starts = [range(0, n, size) for n, size in zip(shape, sizes, strict=True)]
    return [
        Block(
            (z, y, x),
            (min(sizes[0], shape[0] - z), min(sizes[1], shape[1] - y), min(sizes[2], shape[2] - x)),
            (fft[0], fft[1], fft[2]),
            (leads[0], leads[1], leads[2]),
        )
        for z, y, x in product(*starts)
    ]


class _BlockSearch:
    """Search of one block: its transform, and the best rotation of each voxel so far."""

    def __init__(
        self,
        data: Voxels,
        normalize: Normalization,
        template: SearchTemplate,
        block: Block,
        device: str,
        cone: AxisCone | None = None,
    ) -> None:
        self.cosine = None if cone is None else cone.cosine
        self.normals = None if cone is None else torch.from_numpy(cone.normals).to(device)
        self.template, self.block, self.device = template, block, device
        image = block_image(data, normalize, template, block, device)
        std = _local_std(image, template.mask)[tuple(slice(0, n) for n in block.size)]
        self.std = std.cpu().numpy()
        first = [template.mask.shape[0] // 2 if lead == 0 else 0 for lead in block.lead]
        image = image[tuple(slice(n, None) for n in first)]
        self.spectrum = torch.fft.rfftn(image, s=block.fft, dim=AXES)
        self.best = torch.full(block.size, -torch.inf, device=device)
        self.index = torch.zeros(block.size, dtype=torch.int32, device=device)

    def run(self, rotations: NDArray[np.float64]) -> Iterator[int]:
        """Search all rotations, a batch at a time; yields the number of those done."""
        batch = max(1, BATCH_VOXELS[torch.device(self.device).type] // prod(self.block.fft))
        with torch.inference_mode():
            # in one copy, so that no batch waits for a transfer
            matrices = torch.as_tensor(rotations, dtype=torch.float32, device=self.device)
            for first in range(0, len(rotations), batch):
                kernels = self.template.rotated(matrices[first : first + batch], self.device)
                for number, values in enumerate(correlate(self.spectrum, kernels, self.block), first):
                    if self.normals is not None:
                        values.masked_fill_(~self._allows(matrices[number]), -torch.inf)
                    self.index.masked_fill_(values > self.best, number)
                    torch.maximum(self.best, values, out=self.best)
                yield min(first + batch, len(rotations))

    def _allows(self, rotation: Tensor) -> Tensor:
        """Voxels whose cone holds the z axis of the template."""
        assert self.normals is not None
        x, y, z = rotation[:, 2]
        return (self.normals[0] * x + self.normals[1] * y + self.normals[2] * z).abs() >= self.cosine

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scores and indices of the rotations."""
        is_empty = (self.std**2 < MIN_VARIANCE) | torch.isneginf(self.best).cpu().numpy()
        scores = self.best.cpu().numpy() / np.where(is_empty, 1.0, self.std)
        return np.where(is_empty, 0.0, scores).astype(np.float32), self.index.cpu().numpy()


def block_image(
    data: Voxels, normalize: Normalization, template: SearchTemplate, block: Block, device: str = "cpu"
) -> Tensor:
    """Normalized and filtered gray values that the template covers at the voxels of a block."""
    image = torch.from_numpy(_read(data, normalize, block, template.margin)).to(device)
    return image if template.whitening is None else _whiten(image, template.whitening)


def correlate(spectrum: Tensor, kernels: Tensor, block: Block) -> Tensor:
    """Cross-correlation of an image with kernels (b, n, n, n), at the voxels of the block.

    The first voxel of the image is the first that the kernel covers at the first voxel of the block, or that
    voxel itself along axes on which the block has no `lead`.
    Transforms along one axis after another leave out the zeros around a kernel and the margins of the result.
    """
    half = kernels.shape[-1] // 2
    starts = (half if lead == 0 else 2 * half for lead in block.lead)
    inner_z, inner_y, inner_x = (slice(a, a + n) for a, n in zip(starts, block.size, strict=True))
    spectra = torch.fft.rfft(kernels.flip(AXES), block.fft[2])
    for axis in (-2, -3):
        spectra = torch.fft.fft(spectra, block.fft[axis], dim=axis)
    spectra.mul_(spectrum)
    spectra = torch.fft.ifft(spectra, dim=-3)[:, inner_z]
    spectra = torch.fft.ifft(spectra, dim=-2)[:, :, inner_y]
    return torch.fft.irfft(spectra, block.fft[2])[..., inner_x]


def spherical_mask(radius: float) -> NDArray[np.float32]:
    """Ball of *radius* voxels in an odd cube, with a linear edge of one voxel."""
    half = int(np.ceil(radius - 0.5)) if radius > 0.5 else 0
    at = np.arange(-half, half + 1)
    distance = np.sqrt(at[:, None, None] ** 2 + at[:, None] ** 2 + at**2)
    return np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)


def filter_box(radius: float) -> int:
    """Odd edge, without large prime factors, of a box of three radii at least."""
    size = 2 * ceil(1.5 * radius) + 1
    while prod(_small_factors(size)) != size:
        size += 2
    return size


def _small_factors(size: int) -> list[int]:
    factors = []
    for prime in (3, 5, 7):
        while size % prime == 0:
            size //= prime
            factors.append(prime)
    return factors


def frequencies(box: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies kz, ky, kx in cycles per voxel of the `rfftn` of a cube, shaped for broadcasting."""
    full, half = (np.asarray(of(box), np.float64) for of in (np.fft.fftfreq, np.fft.rfftfreq))
    return full[:, None, None], full[:, None], half


def radial_frequency(box: int) -> NDArray[np.float64]:
    """Absolute frequency in cycles per voxel on the `rfftn` of a cube."""
    kz, ky, kx = frequencies(box)
    return np.asarray(np.sqrt(kz**2 + ky**2 + kx**2))


def missing_wedge(box: int, tilt_range: tuple[float, float], tilt_axis: str = "y") -> NDArray[np.float32]:
    """1 on frequencies that a tilt series measures, 0 in the missing wedge, with an edge of one voxel.

    A tilt by theta about y measures the plane kz = kx tan theta; the beam is along z.

    Parameters
    ----------
    tilt_range
        Lowest and highest tilt in degrees.
    tilt_axis
        "y" or "x". A tilt about x measures kz = ky tan theta.
    """
    kz, ky, kx = frequencies(box)
    across = kx if tilt_axis == "y" else ky
    low, high = (np.deg2rad(angle) for angle in tilt_range)
    kz, across = np.where(across < 0, -kz, kz) * box, np.abs(across) * box
    inside = np.minimum(across * np.sin(high) - kz * np.cos(high), kz * np.cos(low) - across * np.sin(low))
    wedge = np.broadcast_to(np.clip(inside + 1.0, 0, 1), (box, box, box // 2 + 1))
    return wedge.astype(np.float32)


def band_pass(
    box: int, voxel_size: float, low_pass: float | None = None, high_pass: float | None = None
) -> NDArray[np.float32]:
    """Gaussian band-pass filter whose amplitude is 1/e, or 1 - 1/e, at resolutions in Å."""
    s = radial_frequency(box) / voxel_size
    values = np.ones_like(s)
    if low_pass is not None:
        values *= np.exp(-((s * low_pass) ** 2))
    if high_pass is not None:
        values *= 1 - np.exp(-((s * high_pass) ** 2))
    return values.astype(np.float32)


def whitening(data: NDArray[np.float32], box: int) -> NDArray[np.float32]:
    """Inverse of the radial amplitude spectrum of a volume, 1 at its median, on the `rfftn` of a cube.

    Frequencies beyond the Nyquist frequency of an axis get the value of the last shell.
    """
    spectrum = np.abs(np.fft.rfftn(data)) ** 2
    kz, ky = (np.fft.fftfreq(n) for n in data.shape[:2])
    kx = np.fft.rfftfreq(data.shape[2])
    radius = np.sqrt(kz[:, None, None] ** 2 + ky[:, None] ** 2 + kx**2)
    shells = max(4, min(data.shape) // 2)
    shell = np.rint(radius * 2 * shells).astype(int)
    inside = (shell >= 1) & (shell <= shells)
    power = np.bincount(shell[inside], spectrum[inside], minlength=shells + 1)[1:]
    count = np.bincount(shell[inside], minlength=shells + 1)[1:]
    amplitude = np.sqrt(power / np.maximum(count, 1))
    amplitude = np.maximum(amplitude, 1e-3 * amplitude.max())
    table = np.median(amplitude) / amplitude
    at = np.arange(1, shells + 1) / (2 * shells)
    return np.interp(radial_frequency(box), at, table).astype(np.float32)


def phase_randomized(data: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise with the amplitude of a volume at every frequency and its mean, and random phases."""
    noise = np.fft.rfftn(rng.standard_normal(data.shape, np.float32))
    noise /= np.maximum(np.abs(noise), 1e-12)
    noise[0, 0, 0] = np.sign(data.mean(dtype=np.float64))
    spectrum = np.abs(np.fft.rfftn(data)) * noise
    return np.fft.irfftn(spectrum, s=data.shape, axes=(0, 1, 2)).astype(np.float32)


def central_box(
    shape: Shape, share: float, spans: list[tuple[int, int]], least: int
) -> tuple[slice, slice, slice]:
    """Box in the middle of a part of a volume that has a share of the part.

    Parameters
    ----------
    spans
        First and last voxel of the part along each axis.
    least
        Minimum edge, as far as the volume reaches.
    """
    box = []
    for size, (low, high) in zip(shape, spans, strict=True):
        edge = min(size, max(least, round((high - low) * share ** (1 / 3))))
        start = int(np.clip((low + high - edge) / 2, 0, size - edge))
        box.append(slice(start, start + edge))
    return box[0], box[1], box[2]


def spans_of(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last voxel of the inside of a mask along each axis."""
    spans = []
    for axis in range(3):
        index = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        spans.append((int(index[0]), int(index[-1]) + 1))
    return spans


def _support(
    density: NDArray[np.float32], box: int, oversampling: float
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Voxels of a box that a density reaches in some rotation: see :class:`_Copy`."""
    half = density.shape[0] // 2
    reached = np.argwhere(np.abs(density) > MIN_DENSITY * np.abs(density).max()) - half
    radius = np.sqrt((reached**2).sum(axis=1).max(initial=0)) + np.sqrt(3)
    at = np.arange(box) - box // 2
    z, y, x = (axis.ravel() for axis in np.meshgrid(at, at, at, indexing="ij"))
    inside = np.flatnonzero(np.sqrt(z**2 + y**2 + x**2) * oversampling <= radius)
    # grid_sample takes -1 to 1 from the first to the last voxel of the density
    points = np.stack([x, y, z], axis=1)[inside] * (oversampling / half)
    return points.astype(np.float32), inside


def _rotate(copy: _Copy, matrices: Tensor, box: int) -> Tensor:
    """Rotated densities (b, box, box, box) around the middle voxel, by linear interpolation."""
    # a voxel p shows the reference at R^T p, in a row p R
    grid = (copy.points @ matrices).reshape(len(matrices), 1, 1, -1, 3)
    stack = copy.density.expand(len(matrices), 1, *copy.density.shape)
    boxes = torch.zeros(len(matrices), box**3, device=matrices.device)
    boxes[:, copy.inside] = functional.grid_sample(stack, grid, align_corners=True).flatten(1)
    return boxes.reshape(-1, box, box, box)


def _read(data: Voxels, normalize: Normalization, block: Block, margin: int) -> NDArray[np.float32]:
    """Normalized values of a block with its margins, 0 beyond the faces of the tomogram."""
    low = [max(0, s - margin) for s in block.start]
    high = [min(n, s + m + margin) for n, s, m in zip(data.shape, block.start, block.size, strict=True)]
    values = normalize(data[block.around(margin)])
    pad = [
        (a - (s - margin), s + m + margin - b)
        for a, b, s, m in zip(low, high, block.start, block.size, strict=True)
    ]
    return np.pad(values, pad)


def _whiten(image: Tensor, whitening: NDArray[np.float32]) -> Tensor:
    """Convolve with the kernel of a filter; the result is smaller by the box of the kernel less one."""
    box = whitening.shape[0]
    kernel = np.fft.fftshift(np.fft.irfftn(whitening, s=(box,) * 3, axes=(0, 1, 2)))
    return _convolve(image, kernel).float()


def _local_std(image: Tensor, mask: NDArray[np.float32]) -> Tensor:
    """Weighted standard deviation under the mask, where the mask lies within the image."""
    weights = mask.astype(np.float64) / mask.sum(dtype=np.float64)
    values = image.to(_precise(image))
    mean, square = _convolve(values, weights), _convolve(values.square(), weights)
    return (square - mean.square()).clamp(min=0.0).sqrt()


def _convolve(image: Tensor, kernel: NDArray[np.floating]) -> Tensor:
    """Convolution with a cube in double precision, without the voxels where the cube reaches beyond."""
    reach, dtype = kernel.shape[0] - 1, _precise(image)
    sizes = tuple(next_fast_len(n, real=True) for n in image.shape)
    wave = torch.fft.rfftn(image.to(dtype), s=sizes)
    wave *= torch.fft.rfftn(torch.as_tensor(kernel, dtype=dtype, device=image.device), s=sizes)
    whole = torch.fft.irfftn(wave, s=sizes)
    return whole[tuple(slice(reach, n) for n in image.shape)]


def _precise(image: Tensor) -> torch.dtype:
    """Double precision, where the device has it."""
    return torch.float32 if image.device.type == "mps" else torch.float64
