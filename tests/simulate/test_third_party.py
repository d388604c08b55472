"""The physics beside programs of others: torch-fourier-slice, torch-ctf, torch-fourier-filter, ttsim3d.

Where they name or sign a quantity in another way, the function here that asks them says how.
"""

import dataclasses
from importlib import resources

import gemmi
import numpy as np
import pytest
import torch
from scipy import constants, fft, ndimage
from scipy.spatial.transform import Rotation
from torch_ctf import (
    calculate_ctf_1d,
    calculate_ctf_2d,
    calculate_defocus_phase_aberration,
    calculate_relativistic_electron_wavelength,
)
from torch_fourier_filter.dose_weight import critical_exposure, cumulative_dose_filter_3d, dose_weight_2d
from torch_fourier_filter.envelopes import Cc_envelope, Cs_envelope, b_envelope
from torch_fourier_filter.mtf import make_mtf_grid, read_mtf
from torch_fourier_slice import backproject_2d_to_3d, project_3d_to_2d
from ttsim3d.simulate3d import BOND_SCALING_FACTOR, simulate3d

from cryovox.simulate.microscope import (
    DetectorConfig,
    OpticsConfig,
    TiltConfig,
    acquire,
    reconstruct,
    tilt_scheme,
)
from cryovox.simulate.microscope.detector import mtf
from cryovox.simulate.microscope.optics import (
    REST_ENERGY,
    critical_dose,
    ctf,
    dose_filter,
    envelope,
    frequency_axes,
    interaction_constant,
    radial_frequency,
    wavelength,
)
from cryovox.simulate.microscope.projection import project
from cryovox.simulate.particles import library
from cryovox.simulate.particles.density import (
    ICE_POTENTIAL,
    SCATTERING_TO_VOLTS,
    excluded_volume,
    from_atoms,
    scattering_factor,
)
from cryovox.simulate.particles.structures import Atoms, read_atoms
from cryovox.simulate.particles.support import low_pass

ANGLES = np.array([-60.0, -35.0, -12.0, 7.0, 41.0, 63.0])


def centered(density, n):
    """*density* in a cube of n, its voxel d // 2 on voxel n // 2."""
    before = n // 2 - density.shape[0] // 2
    return np.pad(density, [(before, n - density.shape[0] - before)] * 3).astype(np.float32)


def noise_in_a_ball(n=48, sigma=1.0):
    """Smooth noise that no tilt moves out of the field."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((n, n, n)), sigma)
    place = np.indices(noise.shape) - n // 2
    inside = 0.5 - 0.5 * np.tanh((np.sqrt((place**2).sum(0)) - n / 3) / 1.5)
    return (noise * np.where(inside > 1e-4, inside, 0)).astype(np.float32)


def apart(ours, theirs):
    """Root mean square of the difference over that of theirs, image by image."""
    pixels = tuple(range(1, ours.ndim))
    return np.sqrt(((ours - theirs) ** 2).sum(pixels) / (theirs**2).sum(pixels))


def correlation(ours, theirs, bins=10):
    """Fourier ring or shell correlation in *bins* up to Nyquist."""
    sampled = [fft.fftfreq(n) for n in ours.shape[:-1]] + [fft.rfftfreq(ours.shape[-1])]
    place = 2 * bins * np.sqrt(sum(k**2 for k in np.meshgrid(*sampled, indexing="ij")))
    ring = np.minimum(place.astype(int), bins).ravel()
    one, two = fft.rfftn(ours), fft.rfftn(theirs)
    products = ((one * two.conj()).real, np.abs(one) ** 2, np.abs(two) ** 2)
    cross, first, second = (np.bincount(ring, p.ravel(), bins + 1)[:bins] for p in products)
    return cross / np.sqrt(first * second)


# ---- projection


def turns(angles, axis="y", sign=-1):
    """Their matrices turn the coordinates of the slice into those of the volume.

    The detector's x axis lies along (cos, 0, sin) of the tilt in (x, y, z): a turn about y by minus the tilt.
    """
    matrices = Rotation.from_euler(axis, sign * np.asarray(angles)[:, None], degrees=True).as_matrix()
    return torch.from_numpy(matrices.astype(np.float32))


def central_slices(volume, angles, padding=4.0, **geometry):
    return project_3d_to_2d(torch.from_numpy(volume), turns(angles, **geometry), padding).numpy()


@pytest.fixture(scope="module", params=["noise", "ribosome"])
def volume(request):
    if request.param == "noise":
        return noise_in_a_ball()
    return centered(library.build_template("ribosome-80s", 15.0).density, 48)


def test_projections_are_central_slices(volume):
    """They interpolate linearly in the padded transform.

    Twice the padding is half the step, and an error of theirs that falls to a fourth; what is left of the
    disagreement at four times is theirs for the most part.
    """
    ours = project(volume, ANGLES)
    coarse, fine = (central_slices(volume, ANGLES, padding) for padding in (2.0, 4.0))
    assert apart(ours, fine).max() < 0.01
    assert (apart(ours, coarse) / apart(ours, fine)).min() > 2.5
    for one, two in zip(ours, fine, strict=True):
        assert correlation(one, two)[:9].min() > 0.999


@pytest.mark.parametrize(("axis", "sign"), [("y", 1), ("x", -1), ("x", 1), ("z", -1)])
def test_another_sign_or_axis_is_off_by_far(volume, axis, sign):
    ours = project(volume, ANGLES)
    wrong = central_slices(volume, ANGLES, padding=2.0, axis=axis, sign=sign)
    right = central_slices(volume, ANGLES, padding=2.0)
    assert (apart(ours, wrong) / apart(ours, right)).min() > 6


def test_a_reconstruction_is_that_of_central_slices_put_together():
    """Slices put into a transform and divided by their number, against filtered back-projection."""
    volume = noise_in_a_ball(32, sigma=1.2)
    tilts = tilt_scheme(TiltConfig(range=(-60, 60), step=3, shift=0), np.random.default_rng(0))
    images = project(volume, tilts.angles)
    ours = reconstruct(10.0 * images, tilts, volume.shape, 10.0)
    right, wrong = (
        backproject_2d_to_3d(torch.from_numpy(images), turns(tilts.angles, sign=sign)).numpy()
        for sign in (-1, 1)
    )
    assert correlation(ours, right)[1:8].min() > 0.97
    assert correlation(ours, wrong)[1:8].max() < 0.5


# ---- optics


CASES = [  # defocus (um), kV, Cs (mm), amplitude contrast, phase shift (degrees)
    (3.0, 300.0, 2.7, 0.07, 0.0),
    (0.8, 300.0, 2.7, 0.1, 0.0),
    (5.0, 200.0, 2.0, 0.1, 0.0),
    (2.0, 100.0, 1.4, 0.07, 0.0),
    (-2.0, 300.0, 2.7, 0.07, 0.0),
    (0.5, 300.0, 2.7, 0.0, 90.0),
    (4.0, 200.0, 0.01, 0.2, 45.0),
]


@pytest.mark.parametrize(("defocus", "kv", "cs", "amplitude", "shift"), CASES)
def test_the_contrast_transfer(defocus, kv, cs, amplitude, shift):
    """Theirs is positive where an image with dark particles is turned over: minus ours.

    Their numbers are single precision, of phases up to some hundred radians. Their phase plate turns
    frequency 0, the unscattered beam, too.
    """
    optics = OpticsConfig(voltage=kv, cs=cs, amplitude_contrast=amplitude, phase_shift=shift)
    pixel, count = 2.0, 301
    line = calculate_ctf_1d(defocus, kv, cs, amplitude, shift, pixel, count, 1).numpy()
    ours = ctf(np.linspace(0, 0.5, count) / pixel, 1e4 * defocus, optics)
    assert ours[1:] == pytest.approx(-line[1:], abs=1e-4)
    assert ours[0] == pytest.approx(-amplitude)
    shape = (30, 44)
    plane = calculate_ctf_2d(defocus, 0.0, 0.0, kv, cs, amplitude, shift, pixel, shape, True, False).numpy()
    scattered = radial_frequency(shape, pixel) > 0
    ours = ctf(radial_frequency(shape, pixel), 1e4 * defocus, optics)
    assert ours[scattered] == pytest.approx(-plane[scattered], abs=1e-4)


@pytest.mark.parametrize("angle", [0.0, 25.0, 90.0, 140.0])
def test_the_contrast_transfer_with_astigmatism(angle):
    """Their astigmatism is half of ours; in the code of 0.6.0 its angle runs from x toward y, as ours."""
    scheme = TiltConfig(defocus=(2, 2), astigmatism=(0.6, 0.6), astigmatism_angle=(angle, angle))
    tilts, optics = tilt_scheme(scheme, np.random.default_rng(0)), OpticsConfig()
    shape, pixel = (40, 54), 3.0
    focus = tilts.defocus_at(0, *frequency_axes(shape, pixel))
    ours = ctf(radial_frequency(shape, pixel), focus, optics)
    others = (300.0, optics.cs, optics.amplitude_contrast, 0.0, pixel, shape, True, False)
    assert ours == pytest.approx(-calculate_ctf_2d(2.0, 0.3, angle, *others).numpy(), abs=2e-4)
    assert np.abs(ours + calculate_ctf_2d(2.0, 0.3, angle + 90, *others).numpy()).max() > 1


@pytest.mark.parametrize("kv", [300.0, 200.0, 100.0])
def test_the_phase_of_a_potential_has_the_mass_of_a_fast_electron(kv):
    """ttsim3d scales by the wavelength alone; the interaction constant also has the relativistic mass."""
    theirs = 1e10 * float(calculate_relativistic_electron_wavelength(1e3 * kv))
    assert wavelength(kv) == pytest.approx(theirs, rel=1e-6)
    assert interaction_constant(kv) * SCATTERING_TO_VOLTS == pytest.approx(
        theirs * (1 + 1e3 * kv / REST_ENERGY), rel=1e-5
    )


@pytest.mark.parametrize("kv", [300.0, 200.0])
def test_the_envelope_of_the_energy_spread(kv):
    """They leave the relativistic factor of the focus to the caller, and add ripples of the supplies."""
    shape, pixel = (40, 54), 2.0
    factor = (1 + 1e3 * kv / REST_ENERGY) / (1 + 1e3 * kv / (2 * REST_ENERGY))
    still = {"deltaV_V": 0.0, "deltaI_I": 0.0}
    theirs = Cc_envelope(2.7, shape, pixel, voltage=kv, energy_spread=0.7 * factor, **still).numpy()
    optics = OpticsConfig(voltage=kv, cc=2.7, energy_spread=0.7, aperture=0)
    assert envelope(radial_frequency(shape, pixel), 3e4, optics) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("kv", [300.0, 200.0])
@pytest.mark.parametrize("defocus", [3.0, -1.0])
def test_the_envelope_of_the_source(kv, defocus):
    """The damping goes with the gradient of the phase, here that of torch-ctf by differentiation.

    The envelope of torch-fourier-filter 0.6.0 adds the parts of defocus and Cs where in that gradient they
    are subtracted, so that it agrees at the opposite defocus.
    """
    shape, pixel, cs, mrad = (40, 54), 2.0, 2.7, 0.1
    optics = OpticsConfig(voltage=kv, cs=cs, cc=0, aperture=mrad)
    k = radial_frequency(shape, pixel)
    ours = envelope(k, 1e4 * defocus, optics)
    place = torch.from_numpy(k).requires_grad_()
    numbers = (torch.tensor(x, dtype=torch.float64) for x in (defocus, kv, cs))
    phase = calculate_defocus_phase_aberration(*numbers, place**2)
    (gradient,) = torch.autograd.grad(phase.sum(), place)
    lost = (1e-3 * mrad / (2 * wavelength(kv)) * gradient.numpy()) ** 2
    assert ours == pytest.approx(np.exp(-lost), abs=1e-6)
    theirs = Cs_envelope(cs, -defocus, shape, pixel, voltage=kv, alpha=mrad).numpy()
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert np.abs(ours - Cs_envelope(cs, defocus, shape, pixel, voltage=kv, alpha=mrad).numpy()).max() > 5e-3


def test_the_envelope_of_a_b_factor():
    shape, pixel = (20, 34), 3.0
    optics = OpticsConfig(cc=0, aperture=0, b_factor=120.0)
    damping = envelope(radial_frequency(shape, pixel), 3e4, optics)
    assert damping == pytest.approx(b_envelope(120.0, shape, pixel).numpy(), abs=1e-6)


@pytest.mark.parametrize(("before", "dose"), [(0.0, 3.0), (0.0, 120.0), (57.0, 3.0)])
def test_the_damage_during_an_exposure(before, dose):
    """They divide the integral by the dose at its end; a mean has to be divided by that of the exposure."""
    shape, pixel = (24, 36), 3.0
    end = before + dose
    theirs = cumulative_dose_filter_3d(shape, pixel, before, end).numpy() * end / dose
    k = radial_frequency(shape, pixel)
    result = k > 0  # at 0 theirs is lost to rounding
    assert dose_filter(k, before, dose)[result] == pytest.approx(theirs[result], abs=3e-5)
    assert critical_dose(k)[result] == pytest.approx(critical_exposure(torch.from_numpy(k)).numpy()[result])


@pytest.mark.parametrize("kv", [300.0, 200.0, 100.0])
def test_the_damage_at_other_voltages(kv):
    """Two frames of nothing but ones: the second over the first is the weight of its dose."""
    shape, pixel, dose = (24, 36), 3.0, 20.0
    frames = torch.ones((2, 24, 19), dtype=torch.complex64)
    first, second = dose_weight_2d(frames, shape, pixel, torch.tensor([0.0, dose]), voltage=kv).real.numpy()
    assert dose_filter(radial_frequency(shape, pixel), dose, 0.0, kv) == pytest.approx(
        second / first, abs=1e-5
    )


def test_the_image_of_a_weak_object_from_parts_of_others():
    """Central slices, contrast transfer, envelopes and damage of theirs, for tilts that differ in all."""
    volume, edge = centered(library.build_template("ribosome-80s", 15.0).density, 48), 15.0
    optics = OpticsConfig(model="weak", b_factor=300.0, aperture=0.05)
    scheme = TiltConfig(scheme="list", angles=(20, -40, 60), defocus=(3, 3), defocus_spread=0.4, shift=0)
    tilts = tilt_scheme(scheme, np.random.default_rng(0))
    series = acquire(volume, edge, tilts, optics, DetectorConfig.ideal())
    slices = interaction_constant(300) * edge * central_slices(volume, tilts.angles)
    wide = (96, 96)
    transfers = [their_transfer(tilts, i, wide, edge, optics) for i in range(3)]
    images = 1 - np.stack([image(s, t) for s, t in zip(slices, transfers, strict=True)])
    ours = 1 - series.noisefree / series.flux[:, None, None]
    assert apart(ours, images).max() < 0.012
    others = [*transfers[1:], transfers[0]]
    another = 1 - np.stack([image(s, t) for s, t in zip(slices, others, strict=True)])
    assert (apart(ours, another) / apart(ours, images)).min() > 5


def their_transfer(tilts, i, shape, edge, optics):
    defocus, end = 1e-4 * tilts.defocus[i], tilts.accumulated[i] + tilts.dose[i]
    kv, factor = optics.voltage, (1 + 3e5 / REST_ENERGY) / (1 + 3e5 / (2 * REST_ENERGY))
    result = -calculate_ctf_2d(
        defocus, 0.0, 0.0, kv, optics.cs, optics.amplitude_contrast, 0.0, edge, shape, True, False
    )
    still = {"deltaV_V": 0.0, "deltaI_I": 0.0}
    result *= Cc_envelope(optics.cc, shape, edge, energy_spread=factor * optics.energy_spread, **still)
    result *= Cs_envelope(optics.cs, -defocus, shape, edge, voltage=kv, alpha=optics.aperture)
    result *= b_envelope(optics.b_factor, shape, edge)
    left = cumulative_dose_filter_3d(shape, edge, tilts.accumulated[i], end) * end / tilts.dose[i]
    left[0, 0] = 1
    return (result * left).numpy()


def image(phase, transfer):
    n, wide = len(phase), len(transfer)
    return 1 + 2 * fft.irfft2(fft.rfft2(phase, s=(wide, wide)) * transfer, s=(wide, wide))[:n, :n]


# ---- camera


def camera_curve(name):
    file = resources.files("ttsim3d") / "data" / f"mtf_{name}.star"
    frequency, values = (x.numpy().astype(float) for x in read_mtf(str(file)))
    return frequency[frequency <= 0.5], values[frequency <= 0.5]


def test_the_grid_of_a_cameras_curve():
    config, shape = DetectorConfig(mtf_nyquist=0.4), (24, 40)
    line = torch.linspace(0, 0.5, 2001, dtype=torch.float64)
    curve = torch.from_numpy(mtf(line.numpy(), config, 1.0))
    theirs = make_mtf_grid(shape, line, curve).numpy()
    k = radial_frequency(shape, 1.0)
    assert mtf(k, config, 1.0)[k <= 0.5] == pytest.approx(theirs[k <= 0.5], abs=1e-5)


@pytest.mark.parametrize(
    "name",
    ["falcon4EC_200kV", "falcon4EC_300kV", "k2_300kV", "k2_300kV_FL2", "k3_standard_300kV_FL2"],
)
def test_cameras_that_count_have_about_a_gaussian(name):
    """Curves that come with ttsim3d; one number at Nyquist stands for all of them."""
    frequency, curve = camera_curve(name)
    nyquist = curve[-1] ** (1 / (2 * frequency[-1]) ** 2)
    ours = mtf(frequency, DetectorConfig(mtf_nyquist=nyquist), 1.0)
    assert np.abs(ours - curve).max() < 0.07


def test_a_camera_that_integrates_has_not():
    frequency, curve = camera_curve("falcon2_300kV")
    assert np.abs(mtf(frequency, DetectorConfig(mtf_nyquist=curve[-1]), 1.0) - curve).max() > 0.3


def test_the_default_is_between_two_cameras():
    low, high = (camera_curve(name)[1][-1] for name in ("k2_300kV", "k3_standard_300kV_FL2"))
    assert low < DetectorConfig().mtf_nyquist < high


# ---- potential


@pytest.mark.parametrize("element", ["C", "N", "O", "P", "S", "Fe", "Zn"])
def test_scattering_of_electrons_follows_from_that_of_x_rays(element):
    """Mott and Bethe's formula on the four Gaussians for X-rays of the International Tables.

    Below 0.2 / Å it is a difference of nearly equal numbers that the tables do not carry.
    """
    result = gemmi.Element(element)
    s2 = np.array([0.2, 0.3, 0.5, 0.8, 1.0, 1.5]) ** 2
    x_rays = np.array([result.it92.calculate_sf(s / 4) for s in s2])
    bethe = gemmi.mott_bethe_const() * (result.atomic_number - x_rays) / s2
    assert scattering_factor(result.atomic_number, s2) == pytest.approx(bethe, rel=0.01)


def test_scattering_of_hydrogen_is_that_of_its_ground_state():
    bohr = 1e10 * constants.value("Bohr radius")
    s2 = np.linspace(0.05, 1.5, 30) ** 2
    x_rays = (1 + np.pi**2 * bohr**2 * s2) ** -2
    closed = (1 - x_rays) / (2 * np.pi**2 * bohr * s2)
    assert scattering_factor(1, s2) == pytest.approx(closed, rel=0.02)
    assert float(scattering_factor(1, 0.0)) == pytest.approx(bohr, rel=2e-3)


EDGE, FINE = 120.0, 1.0
"""Å: of the cube, and of ttsim3d's voxels in it."""
DISPLACEMENT = 20.0
"""Å², B-factor of all atoms."""


def random_atoms(count=300):
    rng = np.random.default_rng(0)
    place = rng.standard_normal((count, 3)) * (9, 6, 4.5) + (100, -50, 7)
    elements = rng.choice([1, 6, 7, 8, 15, 16], count, p=[0.2, 0.4, 0.15, 0.15, 0.05, 0.05]).astype(np.uint8)
    one = np.ones(count, np.float32)
    return Atoms(place, elements, one, 0 * one, 0 * one, chains=1)


@pytest.fixture(scope="module", params=["random", "3qm1"])
def molecule(request):
    """Atoms, and ttsim3d's potential of them in volts around our center; it knows no occupancy."""
    if request.param == "random":
        atoms = random_atoms()
    else:
        atoms = read_atoms(request.getfixturevalue("shared_data") / "structures/3qm1.pdb.gz", "asu")
        atoms = dataclasses.replace(atoms, occupancy=np.ones_like(atoms.occupancy))
    bare = dataclasses.replace(atoms, hydrogens=0 * atoms.hydrogens)
    return atoms, bare, their_potential(bare)


def their_potential(atoms):
    """ttsim3d on a fine grid of voxels, each the mean over its cube.

    Its values are potentials times wavelength and edge, over 47.88 V Å², and times 1.043 for the bonds.
    It is asked for no finer grid inside: its way back from one of a fourth of the edge loses the image.
    """
    center = from_atoms(atoms, 10.0, solvent=0.0).facts["centre"]
    names = [gemmi.Element(int(number)).name.upper() for number in atoms.elements]
    values = simulate3d(
        torch.from_numpy((atoms.positions - center)[:, ::-1].astype(np.float32)),
        names,
        torch.full((len(names),), DISPLACEMENT),
        beam_energy_kev=300.0,
        sim_pixel_spacing=FINE,
        sim_volume_shape=(round(EDGE / FINE),) * 3,
        requested_upsampling=1,
        apply_dose_weighting=False,
        device="cpu",
        atom_batch_size=512,
    )
    wave = 1e10 * float(calculate_relativistic_electron_wavelength(3e5))
    return values.numpy() * SCATTERING_TO_VOLTS / (wave * FINE * BOND_SCALING_FACTOR)


def resampled(fine, voxel_size):
    """As `from_atoms` samples: the means over small cubes undone, low-passed, cut."""
    size, n = len(fine), round(EDGE / voxel_size)
    low = np.r_[0 : n // 2, size - n // 2 : size]
    wave = fft.rfftn(fft.ifftshift(fine))[np.ix_(low, low, np.arange(n // 2 + 1))] * (n / size) ** 3
    full, half = fft.fftfreq(n, voxel_size), fft.rfftfreq(n, voxel_size)
    z, y, x = np.meshgrid(full, full, half, indexing="ij", sparse=True)
    s = np.sqrt(z**2 + y**2 + x**2).astype(np.float32)
    wave *= low_pass(s, 2 * voxel_size, voxel_size)
    wave /= np.sinc(FINE * z) * np.sinc(FINE * y) * np.sinc(FINE * x)
    return fft.fftshift(fft.irfftn(wave, s=(n, n, n)))


@pytest.mark.parametrize("voxel_size", [3.0, 4.0, 6.0])
def test_the_potential_of_atoms(molecule, voxel_size):
    """In vacuum, without the hydrogens that a file leaves out.

    What differs, up to 1 % of the peak, is the ringing of the cut at the sampling's limit: our cube is as
    small as it may be and its faces are cleared, theirs is wide.
    """
    _, bare, fine = molecule
    theirs = resampled(fine, voxel_size)
    template = from_atoms(bare, voxel_size, b_factor=DISPLACEMENT, solvent=0.0)
    ours = centered(template.density, len(theirs))
    assert theirs.sum() == pytest.approx(ours.sum(), rel=1e-3)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9995
    assert np.abs(ours - theirs).max() < 0.012 * theirs.max()
    assert correlation(ours, theirs)[:8].min() > 0.998
    shifted = np.roll(theirs, 1, axis=0)
    assert np.abs(ours - shifted).max() > 0.1 * theirs.max()


def test_ice_and_hydrogens_are_what_it_has_less(molecule):
    """By default a molecule is in ice and has all its hydrogens; ttsim3d's stands in a vacuum."""
    atoms, _, fine = molecule
    template = from_atoms(atoms, 4.0, b_factor=DISPLACEMENT)
    ours = template.density.sum(dtype=float) * 4.0**3
    theirs = fine.sum(dtype=float) * FINE**3
    added = SCATTERING_TO_VOLTS * float(scattering_factor(1, 0.0)) * float(atoms.hydrogens.sum())
    assert ours == pytest.approx(theirs + added - ICE_POTENTIAL * excluded_volume(atoms), rel=2e-3)
    assert 0.45 < ours / theirs < 0.6
    blurred = resampled(fine, 4.0)
    assert np.corrcoef(centered(template.density, len(blurred)).ravel(), blurred.ravel())[0, 1] > 0.98
