"""Electrostatic potential of a molecule in vitreous ice, from its atoms.

Atoms are taken as isolated (the independent-atom model) and so is the ice that they displace: bonds
lower the mean inner potential of both by a tenth or so, and in the difference most of that cancels.
Hydrogens that a file leaves out are added: half of a protein's atoms, a fifth of its scattering.
"""

from __future__ import annotations

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryovox.core.volume import check_voxel_size
from cryovox.simulate.particles.structures import Atoms
from cryovox.simulate.particles.support import Molecule, finish_template, low_pass
from cryovox.simulate.particles.template import Template

SCATTERING_TO_VOLTS = 47.87801
"""V·Å²: h² / (2 pi m_e e), from a scattering factor per volume (Å/Å³) to volts."""
ICE_POTENTIAL = 4.53
"""Volts: 0.93 g/mL of isolated water molecules (Vulović et al., J. Struct. Biol. 183 (2013) 19)."""

_VOLUMES = {1: 5.15, 6: 16.44, 7: 2.49, 8: 9.13, 15: 5.73, 16: 19.86}
"""Å³ of solvent that an atom displaces (Fraser, MacRae & Suzuki, J. Appl. Cryst. 11 (1978) 693)."""
_OTHER_VOLUME = 10.0
_FINE = 3
"""Grid steps per voxel when atoms are spread; the spline's aliases are then below 0.2 %."""
_CHUNK = 1 << 16
_SHELL = 3.0
"""Å from the outermost nucleus to where its potential and its excluded volume have faded."""


def scattering_factor(element: int, s2: NDArray[np.float32] | float) -> NDArray[np.float32]:
    """Electron scattering factor f_e in Å of a neutral atom at squared frequencies *s2* in 1/Å².

    Five Gaussians (Peng et al., Acta Cryst. A52 (1996) 257).
    """
    table = gemmi.Element(element).c4322
    total = np.zeros(np.shape(s2), np.float32)
    for a, b in zip(table.a, table.b, strict=True):
        total += a * np.exp(np.float32(-b / 4) * np.asarray(s2, np.float32))
    return total


def excluded_volume(atoms: Atoms) -> float:
    """Å³ of solvent that the molecule displaces, hydrogens and occupancy included."""
    return sum(float(weights.sum()) * _volume(element) for element, _, weights in _kinds(atoms))


def from_atoms(
    atoms: Atoms,
    voxel_size: float,
    *,
    resolution: float | None = None,
    b_factor: float = 0.0,
    solvent: float = ICE_POTENTIAL,
    name: str | None = None,
) -> Template:
    """Potential above the solvent, low-passed and sampled.

    Each atom adds its potential and takes away a Gaussian ball of solvent (Fraser et al. 1978, eq. 5).
    Atoms are spread on a grid by cubic B-splines and each element's kernel is applied in Fourier space,
    so that the result is band-limited and its integral is exact. The cut at the sampling's limit undershoots
    in narrow channels; in return cubic splines turn the template with an error of 2 to 3 % (more where it
    is but two or three voxels wide).

    Parameters
    ----------
    atoms
        What `read_atoms` gives.
    voxel_size
        Å.
    resolution
        In Å, where the Gaussian low-pass has fallen to 1/e; two voxels by default. Finer than that
        only takes away the Gaussian: what the sampling cannot hold is cut in any case.
    b_factor
        Å², for all atoms alike; that of the file belongs to another experiment.
    solvent
        Its mean inner potential in volts; 0 is a vacuum.
    name
        Of the species; that of the file by default.

    Returns
    -------
    Template
        Its centre of mass weighs the potential. `facts["centre"]` is where that lies in the frame of
        the file (x, y, z in Å), `facts["contrast"]` the mean potential over the molecule's volume.
    """
    check_voxel_size(voxel_size)
    resolution = 2 * voxel_size if resolution is None else resolution
    kinds = _kinds(atoms)
    charge = sum(float(w.sum()) * _contrast(element, solvent) for element, _, w in kinds)
    if charge <= 0:
        raise ValueError(f"a solvent of {solvent} V leaves no contrast")
    centre = np.sum([w @ at * _contrast(element, solvent) for element, at, w in kinds], axis=0) / charge
    reach = np.abs(atoms.positions[atoms.occupancy > 0] - centre).max() + _SHELL + 0.75 * resolution
    n = 2 * int(np.ceil(reach / voxel_size + 1)) + 1
    s = _frequencies(n, voxel_size)
    s2 = s**2
    total = np.zeros(s.shape, np.complex64)
    for element, at, weights in kinds:
        kernel = SCATTERING_TO_VOLTS * scattering_factor(element, s2) - solvent * _hole(element, s2)
        total += kernel * _spread((at - centre)[:, ::-1] / voxel_size, weights, n)
    total *= low_pass(s, resolution, voxel_size) * np.exp(np.float32(-b_factor / 4) * s2) / voxel_size**3
    density = fft.irfftn(total, s=(n, n, n)).astype(np.float32)
    volume = excluded_volume(atoms)
    facts = {
        "assembly": atoms.assembly,
        "chains": atoms.chains,
        "resolution": resolution,
        "heavy_mass": round(atoms.mass, 3),
        "volume": round(volume, 1),
        "contrast": round(charge / volume, 3),
        "centre": tuple(round(float(x), 3) for x in centre),
    }
    whole = Molecule(atoms.full_mass, volume, charge)
    return finish_template(name or atoms.name, density, voxel_size, whole, facts)


def _kinds(atoms: Atoms) -> list[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Per element its atoms' positions and weights; hydrogens left out sit at the atoms they ride on."""
    found = []
    for element in np.unique(atoms.elements):
        mine = atoms.elements == element
        found.append((int(element), atoms.positions[mine], atoms.occupancy[mine].astype(np.float64)))
    rides = atoms.hydrogens > 0
    if rides.any():
        found.append((1, atoms.positions[rides], atoms.hydrogens[rides].astype(np.float64)))
    return found


def _volume(element: int) -> float:
    return _VOLUMES.get(element, _OTHER_VOLUME)


def _contrast(element: int, solvent: float) -> float:
    """Integral of an atom's potential above the solvent, in V·Å³."""
    return SCATTERING_TO_VOLTS * float(scattering_factor(element, 0.0)) - solvent * _volume(element)


def _hole(element: int, s2: NDArray[np.float32]) -> NDArray[np.float32]:
    volume = _volume(element)
    return volume * np.exp(np.float32(-np.pi * volume ** (2 / 3)) * s2)


def _frequencies(n: int, voxel_size: float) -> NDArray[np.float32]:
    """Radius in 1/Å of each Fourier coefficient of an odd cube, in the half that rfftn gives."""
    full, half = (f(n, voxel_size).astype(np.float32) for f in (fft.fftfreq, fft.rfftfreq))
    return np.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2)


def _spread(at: NDArray[np.float64], weights: NDArray[np.float64], n: int) -> NDArray[np.complex64]:
    """Structure factor of point weights over the middle of an odd cube: (n, n, n // 2 + 1).

    Parameters
    ----------
    at : (k, 3)
        z, y, x in voxels from the centre of the middle voxel.
    weights : (k,)
    n
        Edge of the cube in voxels.
    """
    m = _FINE * n
    grid = np.zeros(m**3, np.float32)
    for first in range(0, len(at), _CHUNK):
        some = slice(first, first + _CHUNK)
        where, share = _splines(_FINE * (at[some] + n // 2), m)
        grid += np.bincount(where.ravel(), (share * weights[some, None]).ravel(), minlength=m**3)
    wave = fft.rfftn(grid.reshape(m, m, m))
    half = n // 2
    low = np.r_[0 : half + 1, m - half : m]
    blur = np.sinc(fft.fftfreq(n, _FINE)) ** 4
    wave = wave[np.ix_(low, low, np.arange(half + 1))]
    wave /= (blur[:, None, None] * blur[None, :, None] * blur[None, None, : half + 1]).astype(np.float32)
    return wave


def _splines(at: NDArray[np.float64], m: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The 64 cells of a periodic cube that each point touches, and its share in each."""
    floor = np.floor(at).astype(np.intp)
    t = at - floor
    share = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], -1) / 6
    cell = (floor[..., None] + np.arange(-1, 3)) % m
    where = (cell[:, 0, :, None, None] * m + cell[:, 1, None, :, None]) * m + cell[:, 2, None, None, :]
    product = share[:, 0, :, None, None] * share[:, 1, None, :, None] * share[:, 2, None, None, :]
    return where.reshape(-1, 64), product.reshape(-1, 64)
