"""Cross-correlation of blocks of a tomogram with templates, and its norm under the mask, by transforms."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from cryovox.core.intensity import Normalization
from cryovox.core.volume import Voxels
from cryovox.inference.search_template import SearchTemplate

Shape = tuple[int, int, int]
AXES = (-3, -2, -1)


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


def local_std(image: Tensor, mask: NDArray[np.float32]) -> Tensor:
    """Weighted standard deviation under the mask, where the mask lies within the image."""
    weights = mask.astype(np.float64) / mask.sum(dtype=np.float64)
    values = image.to(_precise(image))
    mean, square = _convolve(values, weights), _convolve(values.square(), weights)
    return (square - mean.square()).clamp(min=0.0).sqrt()


def _read(data: Voxels, normalize: Normalization, block: Block, margin: int) -> NDArray[np.float32]:
    """Normalized values of a block with its margins, 0 beyond the faces of the tomogram."""
    low = [max(0, s - margin) for s in block.start]
    high = [min(n, s + m + margin) for n, s, m in zip(data.shape, block.start, block.size, strict=True)]
    values = normalize(data[block.around(margin)])
    pad = [
        (a - (s - margin), s + m + margin - b)
        for a, b, s, m in zip(low, high, block.start, block.size, strict=True)
    ]
    return np.pad(values, pad) if np.any(pad) else values


def _whiten(image: Tensor, whitening: NDArray[np.float32]) -> Tensor:
    """Convolve with the kernel of a filter; the result is smaller by the box of the kernel less one."""
    box = whitening.shape[0]
    kernel = np.fft.fftshift(np.fft.irfftn(whitening, s=(box,) * 3, axes=(0, 1, 2)))
    return _convolve(image, kernel).float()


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
