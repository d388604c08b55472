"""Match cubes to those of another domain: amplitudes, spectra, histograms."""

from __future__ import annotations

import torch
from torch import Tensor

from cryovox.filters.spectra import as_float, frequencies, irfftn_like, rfftn


def swap_amplitudes(source: Tensor, target: Tensor, *, fraction: float = 0.1) -> Tensor:
    """Replace the amplitudes of low frequencies of source cubes by those of target cubes; phases stay.

    Fourier domain adaptation (Y. Yang and S. Soatto, CVPR 2020, eq. 5-6) in three dimensions.

    Parameters
    ----------
    source : (b, 1, z, y, x)
    target : (n, 1, z, y, x)
        Repeated cyclically if there are fewer than source cubes.
    fraction
        Size of the central cube of swapped frequencies as a fraction of the spectrum: twice the paper's beta.

    Returns
    -------
    (b, 1, z, y, x)
    """
    own, other = rfftn(source), rfftn(target[_cyclic_indices(source, target)])
    low = _is_low_frequency(source, fraction)
    swapped = torch.polar(torch.where(low, other.abs(), own.abs()), own.angle())
    return irfftn_like(swapped, source)


def match_spectrum(source: Tensor, target: Tensor) -> Tensor:
    """Match the radial amplitudes of every source cube to those of the target cubes; phases stay.

    Amplitudes are means over shells, one frequency of the shortest side wide, and over all target cubes.

    Parameters
    ----------
    source : (b, 1, z, y, x)
    target : (n, 1, z, y, x)

    Returns
    -------
    (b, 1, z, y, x)
    """
    _check_shapes(source, target)
    shells = _shells(source)
    spectrum = rfftn(source)
    own = _radial(spectrum.abs(), shells, source.shape[4])
    reference = _radial(rfftn(target).abs(), shells, source.shape[4]).mean(0)
    gain = torch.where(own > 0, reference / own, 0)
    return irfftn_like(spectrum * gain[:, shells][:, None], source)


def match_histogram(source: Tensor, target: Tensor) -> Tensor:
    """Map the gray values of every source cube to those of all target cubes, quantile by quantile.

    Equal values stay equal.

    Parameters
    ----------
    source : (b, 1, z, y, x)
    target : (n, 1, ...)
        Of any sides.

    Returns
    -------
    (b, 1, z, y, x)
    """
    values = as_float(source).flatten(1)
    reference = target.flatten().to(values.dtype).sort().values
    ordered = values.sort(1).values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    quantile = (below + upto).double() / (2 * values.shape[1])
    place = (quantile * len(reference) - 0.5).clamp(0, len(reference) - 1)
    low = place.long()
    high = (low + 1).clamp(max=len(reference) - 1)
    mapped = torch.lerp(reference[low], reference[high], (place - low).to(values.dtype))
    return mapped.reshape(source.shape).to(source.dtype)


def _cyclic_indices(source: Tensor, target: Tensor) -> Tensor:
    _check_shapes(source, target)
    return torch.arange(len(source), device=target.device) % len(target)


def _check_shapes(source: Tensor, target: Tensor) -> None:
    if source.shape[2:] != target.shape[2:]:
        shapes = f"{tuple(source.shape[2:])} and {tuple(target.shape[2:])}"
        raise ValueError(f"source and target have different sides: {shapes}")


def _is_low_frequency(x: Tensor, fraction: float) -> Tensor:
    fz, fy, fx = frequencies(x)
    half = fraction / 2 + 1e-6  # whole frequencies of single precision
    return (fz.abs() <= half) & (fy.abs() <= half) & (fx <= half)


def _shells(x: Tensor) -> Tensor:
    """Shell of each frequency, (z, y, x // 2 + 1)."""
    fz, fy, fx = frequencies(x)
    return ((fz**2 + fy**2 + fx**2).sqrt() * min(x.shape[2:])).round().long()


def _radial(amplitude: Tensor, shells: Tensor, size: int) -> Tensor:
    """Means over the shells of the whole spectrum, (b, shells); an `rfftn` holds only half of it."""
    counts = torch.full((amplitude.shape[4],), 2.0, device=amplitude.device, dtype=amplitude.dtype)
    counts[0] = 1
    if size % 2 == 0:
        counts[-1] = 1
    weights = counts.expand(shells.shape).flatten()
    flat, number = shells.flatten(), int(shells.max()) + 1
    total = amplitude.new_zeros(len(amplitude), number)
    total.index_add_(1, flat, amplitude.flatten(1) * weights)
    norm = amplitude.new_zeros(number).index_add_(0, flat, weights)
    return total / norm.clamp(min=1)
