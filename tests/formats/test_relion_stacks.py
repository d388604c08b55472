"""2-D stacks of RELION 5 and WarpTools: images, directions of projection, and their back-projection."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryovox.cli import main
from cryovox.core.errors import RequestError
from cryovox.data.back_projection import back_project
from cryovox.formats import relion_stacks, subtomograms

SIZE, PIXEL, N = (60, 200, 180), 10.0, 24
TILTS = np.arange(-60, 61, 3.0)
AXIS = 85.0
BLOBS = np.array([[0.0, 0, 0], [5, 0, 0], [0, 3, 4]])
"""Density (z, y, x) in pixels around the center: its mirror images differ from it."""
WARP = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12"


def phantom(center=(0.0, 0.0, 0.0)):
    z, y, x = np.indices((N, N, N)) - N // 2
    blobs = BLOBS + np.asarray(center)
    return sum(np.exp(-((z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2) / 4) for c in blobs)


def projections(center=(0.0, 0.0, 0.0)):
    """Images of blobs that are placed analytically, and the directions of their axes."""
    turns = Rotation.from_euler("xyz", [[1.5, tilt, AXIS] for tilt in TILTS], degrees=True).as_matrix()
    y, x = np.indices((N, N)) - N // 2
    images = np.zeros((len(TILTS), N, N), np.float32)
    for image, turn in zip(images, turns, strict=True):
        for blob in BLOBS + np.asarray(center):
            u, v, _ = turn @ blob[::-1]
            image += np.exp(-((x - u) ** 2 + (y - v) ** 2) / 4)
    return images, turns[:, :2]


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_back_projection_of_known_density():
    images, directions = projections()
    cube = back_project(images, directions)
    assert correlation(cube, phantom()) > 0.9
    for axis in range(3):  # no mirror image fits as well
        assert correlation(np.flip(cube[1:, 1:, 1:], axis), phantom()[1:, 1:, 1:]) < 0.8
    moved = back_project(images, directions, (0.5, -1, 0.25))  # the grid moves, so the density moves back
    assert correlation(moved, phantom((-0.5, 1, -0.25))) > 0.9
    assert correlation(moved, cube) < correlation(cube, phantom())


def write_stack(folder, images):
    with mrcfile.new(folder / "1_stack2d.mrcs", images.astype(np.float16), overwrite=True) as file:
        file.set_image_stack()


def write_project(folder, visible, images, shift=0.0):
    """A project of RELION 5 with one particle at (z, y, x) = (304, 952, 871) Å, without its shift."""
    xyz = np.array([871.0, 952, 304]) - PIXEL * np.array(SIZE[::-1]) / 2
    write_stack(folder, images)
    flags = ",".join(str(int(v)) for v in visible)
    (folder / "particles.star").write_text(
        "data_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\ndata_optics\n\nloop_\n_rlnOpticsGroup\n"
        f"_rlnTomoTiltSeriesPixelSize\n_rlnImagePixelSize\n1 5.0 {PIXEL}\n\ndata_particles\n\nloop_\n"
        "_rlnTomoName\n_rlnCenteredCoordinateXAngst\n_rlnCenteredCoordinateYAngst\n"
        "_rlnCenteredCoordinateZAngst\n_rlnOpticsGroup\n_rlnTomoVisibleFrames\n_rlnImageName\n"
        "_rlnOriginXAngst\n_rlnOriginYAngst\n_rlnOriginZAngst\n"
        f"TS_01 {xyz[0]} {xyz[1]} {xyz[2]} 1 [{flags}] 1_stack2d.mrcs {shift} 0 0\n"
    )
    z, y, x = (2 * n for n in SIZE)
    (folder / "tomograms.star").write_text(
        "data_global\n\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesPixelSize\n_rlnTomoTiltSeriesStarFile\n"
        f"_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\nTS_01 5.0 TS_01.star {x} {y} {z}\n"
    )
    rows = "".join(f"1.5 {tilt} {AXIS}\n" for tilt in TILTS)
    head = "".join(f"_{tag}\n" for tag in ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot"))
    (folder / "TS_01.star").write_text(f"data_TS_01\n\nloop_\n{head}{rows}")
    (folder / "optimisation_set.star").write_text(
        "data_\n\n_rlnTomoParticlesFile particles.star\n_rlnTomoTomogramsFile tomograms.star\n"
    )


@pytest.mark.parametrize("all_images", [True, False])
def test_extract_of_a_project_of_relion5(tmp_path, capsys, all_images):
    """Boxes lie on the grid of the tomogram, and the particle where position and corner say."""
    visible = np.ones(len(TILTS), bool)
    visible[[0, 1, -1]] = False
    images = projections()[0]
    images[~visible] = 100.0  # would spoil everything
    write_project(tmp_path, visible, images if all_images else images[visible], shift=8.0)
    out = tmp_path / "set.zarr"
    assert main(["extract", str(tmp_path / "optimisation_set.star"), "--out", str(out)]) == 0
    assert "1 subtomograms of 24^3 voxels" in capsys.readouterr().out
    loaded = subtomograms.read(out)
    assert loaded.voxel_size == PIXEL
    np.testing.assert_allclose(loaded.particles.positions, [[304, 952, 863]], atol=1e-4)
    assert loaded.corners.tolist() == [[30 - 12, 95 - 12, 87 - 12]]
    center = np.array([304, 952, 871]) / PIXEL - loaded.corners[0]  # of the images, without the shift
    assert correlation(loaded.images[0], phantom(center - N // 2)) > 0.9
    with_list = ["extract", str(tmp_path / "particles.star"), str(tmp_path / "tomograms.star"), "--box", "16"]
    assert main([*with_list, "--out", str(tmp_path / "small.h5")]) == 0
    small = subtomograms.read(tmp_path / "small.h5")
    np.testing.assert_allclose(small.images[0], loaded.images[0][4:20, 4:20, 4:20], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "1_stack2d.mrcs").unlink(), "names 1 of 1 stacks that are not there"),
        (lambda folder: (folder / "1_stack2d.mrcs").write_bytes(b"no"), "cannot be read"),
        (lambda folder: replace(folder / "particles.star", "[1,1,", "[1,"), "has 40 tilts"),
        (
            lambda folder: write_stack(folder, projections()[0][:40]),
            "40 images; the particle is visible in 41",
        ),
        (lambda folder: write_stack(folder, projections()[0][:, 2:]), "images of 22 x 24 pixels"),
        (lambda folder: replace(folder / "particles.star", "[1,1,", "[1,x,"), "not [1,0,...]"),
        (lambda folder: replace(folder / "particles.star", "1_stack", "3@1_stack"), "an image of a stack"),
        (lambda folder: replace(folder / "particles.star", "Stacks 1", "Stacks 0"), "names no 2-D stacks"),
        (
            lambda folder: replace(folder / "TS_01.star", "rlnTomoZRot", "other"),
            "no directions of projection",
        ),
        (lambda folder: replace(folder / "TS_01.star", "-60.0", "nan"), "not a finite number"),
    ],
)
def test_stacks_that_are_refused(tmp_path, capsys, change, message):
    write_project(tmp_path, np.ones(len(TILTS)), projections()[0])
    change(tmp_path)
    arguments = ["extract", str(tmp_path / "optimisation_set.star"), "--out", str(tmp_path / "set.zarr")]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set.zarr").exists()


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_list_without_its_tilt_series(tmp_path):
    write_project(tmp_path, np.ones(len(TILTS)), projections()[0])
    with pytest.raises(RequestError, match=r"name the optimisation_set.star") as refusal:
        relion_stacks.read(tmp_path / "particles.star")
    assert "directions of projection" in str(refusal.value)


def test_stacks_of_warptools(shared_data):
    """Real stacks with invisible tilts, beside a back-projection by others."""
    folder = shared_data / "mpneumoniae_70S_warp"
    stacks = relion_stacks.read(folder / f"{WARP}_optimisation_set.star")
    assert (len(stacks), stacks.size, stacks.pixel_size) == (40, 32, 12.0)
    assert [int(flags.sum()) for flags in stacks.visible[::10]] == [34, 37, 35, 37]
    with mrcfile.open(folder / "subtomos_40x32.mrc") as file:
        others = np.asarray(file.data).reshape(40, 32, 32, 32)
    for i in (0, 25):
        images, directions = stacks.images(i)
        assert images.shape == (stacks.visible[i].sum(), 32, 32)
        assert correlation(back_project(images, directions), others[i]) > 0.6  # its filter is another one
        assert correlation(back_project(images, directions * [1, 1, -1]), others[i]) < 0.2


def test_a_stack_of_relion5(shared_data, tmp_path):
    """The first particle of a simulated project: compact density at the center of the box."""
    folder, job = shared_data / "formats" / "relion5_subtomo2d", tmp_path / "Extract" / "job001_filled"
    (job / "Subtomograms" / "session1_TS_1").mkdir(parents=True)
    (tmp_path / "input").mkdir()
    for path in folder.iterdir():
        (tmp_path / path.name.replace("__", "/")).write_bytes(path.read_bytes())
    lines = (job / "particles.star").read_text().splitlines()
    (job / "particles.star").write_text("\n".join(line for line in lines if "2_stack2d" not in line) + "\n")
    stacks = relion_stacks.read(job / "optimisation_set.star")
    images, directions = stacks.images(0)
    assert images.shape == (31, 64, 64)
    np.testing.assert_allclose(directions[15], [[1, 0, 0], [0, 1, 0]], atol=1e-12)  # not tilted
    cube = ndimage.gaussian_filter(back_project(images, directions), 4)  # other particles lie at its rim
    distance = np.linalg.norm(np.indices(cube.shape) - 32, axis=0)
    assert distance.ravel()[np.where(distance < 20, cube, -np.inf).argmax()] < 6
