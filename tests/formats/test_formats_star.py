import gzip
import re

import numpy as np
import pytest
from gemmi import cif
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import read_particles, write_particles
from cryovox.formats.angles import eulers_of, rotations_of
from cryovox.formats.particles import relion, star, star_geometry, star_table


def tomogram(shape=(100, 201, 300), voxel_size=10.0) -> Volume:
    return Volume(np.broadcast_to(np.int8(0), shape), voxel_size)


@st.composite
def lists(draw):
    n = draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = st.text(
        st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" "), max_size=8
    )
    loaded = Particles.of(
        rng.uniform(-50, 9000, (n, 3)),
        draw(st.lists(names.filter(str.strip), min_size=n, max_size=n)),
        scores=rng.normal(size=n),
        rotations=Rotation.random(n, rng=rng).as_matrix() if n else np.zeros((0, 3, 3)),
        tomograms=[f"TS_{i % 2}" for i in range(n)],
    )
    return loaded


@settings(max_examples=40, deadline=None)
@given(
    original=lists(),
    shape=st.tuples(*[st.integers(1, 999)] * 3),
    voxel_size=st.floats(0.5, 40),
    star_version=st.sampled_from(["relion5", "relion4", "relion3"]),
    center=st.sampled_from(["half", "half-1"]),
)
def test_round_trip_whatever_the_size(tmp_path_factory, original, shape, voxel_size, star_version, center):
    path = tmp_path_factory.mktemp("star") / "a.star"
    around = {"TS_0": tomogram(shape, voxel_size), "TS_1": tomogram(shape[::-1], voxel_size)}
    star.write(path, original, tomogram=around, convention=star_version, center=center)
    loaded = star.read(path, tomogram=around if star_version == "relion5" else None)
    if star_version == "relion5":
        again = path.with_name("b.star")
        star.write(
            again,
            star.read(path, tomogram=star.placeholder_tomograms(path)),
            tomogram=star.placeholder_tomograms(path),
        )
        assert again.read_bytes() == path.read_bytes()
    np.testing.assert_allclose(loaded.positions, original.positions, atol=1e-3)
    np.testing.assert_allclose(loaded.rotations, original.rotations, atol=1e-6)
    np.testing.assert_array_equal(loaded.scores, original.scores)
    assert loaded.species.tolist() == original.species.tolist()
    assert loaded.tomograms.tolist() == original.tomograms.tolist()


@pytest.mark.parametrize(("center", "voxels"), [("half", (150, 100.5, 50)), ("half-1", (149, 99.5, 49))])
def test_center_of_odd_and_even_sizes(tmp_path, center, voxels):
    original = Particles.of([np.array(voxels)[::-1] * 10.0], "a")
    star.write(tmp_path / "a.star", original, tomogram=tomogram(), center=center)
    values = star_table.columns_of(cif.read(str(tmp_path / "a.star"))["particles"])
    assert [float(values[tag][0]) for tag in relion.CENTERED] == [0, 0, 0]
    loaded = read_particles(tmp_path / "a.star", tomogram=tomogram())
    np.testing.assert_allclose(loaded.positions, original.positions)
    shifted = read_particles(tmp_path / "a.star", tomogram=tomogram(), center="half-1")
    np.testing.assert_allclose(shifted.positions, [[490, 995, 1490]])


@pytest.mark.parametrize("tilt", [0.0, 180.0, 57.0])
def test_angles_are_those_of_relion(tilt):
    rot, psi = np.deg2rad(30), np.deg2rad(-75)
    ca, sa, cb, sb, cg, sg = (f(a) for a in (rot, np.deg2rad(tilt), psi) for f in (np.cos, np.sin))
    # the matrix of Heymann, Chagoyen and Belnap (2005), as RELION applies it to the reference
    wanted = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    loaded = rotations_of([[30, tilt, -75]])
    np.testing.assert_allclose(loaded[0], wanted, atol=1e-12)
    np.testing.assert_allclose(rotations_of(eulers_of(loaded)), loaded, atol=1e-12)


def test_starfile_reads_what_we_write(tmp_path):
    import starfile

    original = Particles.of([[10, 20, 30], [40, 50, 60]], ["a b", "c"], scores=[0.25, 1.0], tomograms="TS_1")
    star.write(tmp_path / "a.star", original, voxel_size=2.0, convention="relion4")
    tables = starfile.read(tmp_path / "a.star", always_dict=True)
    assert list(tables) == ["optics", "particles"]
    table = tables["particles"]
    np.testing.assert_allclose(table[relion.PIXELS], [[15, 10, 5], [30, 25, 20]])
    assert table["cryovoxSpecies"].tolist() == ["a b", "c"]
    assert table["rlnTomoName"].tolist() == ["TS_1", "TS_1"]
    assert tables["optics"]["rlnTomoTiltSeriesPixelSize"].tolist() == [2.0]


def test_we_read_what_starfile_writes(tmp_path):
    import pandas as pd
    import starfile

    rows = {
        "rlnCoordinateX": [1.5],
        "rlnCoordinateY": [2.5],
        "rlnCoordinateZ": [3.5],
        "rlnOriginXAngst": [0.5],
    }
    rows |= {"rlnOriginYAngst": [1.0], "rlnOriginZAngst": [-1.0], "note": ["with space"]}
    starfile.write(pd.DataFrame(rows), tmp_path / "a.star")
    loaded = read_particles(tmp_path / "a.star", voxel_size=4.0)
    np.testing.assert_allclose(loaded.positions, [[15, 9, 5.5]])
    assert loaded.extra["note"].tolist() == ["with space"]


def test_unknown_columns_survive(tmp_path):
    text = (
        "data_\n\nloop_\n_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnVisible\n_mine\n"
        "TS_1 1 2 3 [1,1,0] 'two words'\nTS_2 4 5 6 [0,1,0] #no\n"
    )
    (tmp_path / "a.star").write_text(text.replace("#no", "''"))
    first = read_particles(tmp_path / "a.star", voxel_size=5.0)
    write_particles(tmp_path / "b.star.gz", first, voxel_size=5.0, convention="relion3")
    assert "[1,1,0]  'two words'" in gzip.decompress((tmp_path / "b.star.gz").read_bytes()).decode()
    second = read_particles(tmp_path / "b.star.gz")
    for loaded in (first, second):
        assert loaded.extra["mine"].tolist() == ["two words", ""]
        assert loaded.extra["rlnVisible"].tolist() == ["[1,1,0]", "[0,1,0]"]
        assert loaded.tomograms.tolist() == ["TS_1", "TS_2"]
        np.testing.assert_allclose(loaded.positions, [[15, 10, 5], [30, 25, 20]])


OPTICS = (
    "data_optics\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n_rlnImagePixelSize\n2 2.0 8\n1 1.5 6\n"
)
TAGS = "data_particles\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"
ROWS = TAGS + "_rlnOpticsGroup\n10 0 0 1\n10 0 0 2\n"


def test_each_optics_group_has_its_pixel(tmp_path):
    path = tmp_path / "a.star"
    path.write_text(OPTICS + ROWS)
    assert read_particles(path, tomogram=tomogram()).positions[:, 2].tolist() == [15, 20]
    assert read_particles(path, voxel_size=3.0).positions[:, 2].tolist() == [30, 30]
    path.write_text(OPTICS.replace("TomoTiltSeries", "Micrograph") + ROWS)
    assert read_particles(path).positions[:, 2].tolist() == [15, 20]
    path.write_text(OPTICS + ROWS.replace("0 0 2", "0 0 7"))
    with pytest.raises(RequestError, match="optics group 7"):
        read_particles(path)
    path.write_text(ROWS)
    assert read_particles(path, tomogram=tomogram()).positions[:, 2].tolist() == [100, 100]
    with pytest.raises(RequestError) as caught:
        read_particles(path)
    assert "--voxel-size" in caught.value.remedy


def test_subtomogram_frame_turns_shift_and_pose(tmp_path):
    tags = [*relion.PIXELS, *relion.SHIFTS, *relion.ANGLES, *relion.FRAMES]
    values = "0 0 0  10 0 0  0 0 0  90 0 0"
    (tmp_path / "a.star").write_text(
        "data_particles\nloop_\n" + "".join(f"_{t}\n" for t in tags) + values + "\n"
    )
    loaded = read_particles(tmp_path / "a.star", voxel_size=1.0)
    frame = rotations_of([[90, 0, 0]])[0]
    np.testing.assert_allclose(loaded.rotations[0], frame)
    np.testing.assert_allclose(loaded.positions[0, ::-1], -frame @ [10, 0, 0], atol=1e-12)


def test_species_come_from_the_column_then_the_name_then_the_classes(tmp_path):
    rows = "data_particles\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnClassNumber\n"
    path = tmp_path / "a.star"
    path.write_text(rows + "1 1 1 1\n2 2 2 3\n")
    assert read_particles(path, voxel_size=1.0).species.tolist() == ["class1", "class3"]
    assert read_particles(path, voxel_size=1.0, species="x").species.tolist() == ["x", "x"]
    path.write_text(rows + "1 1 1 1\n2 2 2 1\n")
    assert read_particles(path, voxel_size=1.0).species.tolist() == ["particle"] * 2
    write_particles(path, Particles.of([[0, 0, 0]], "y"), voxel_size=1.0, convention="relion4")
    assert read_particles(path, species="x").species.tolist() == ["y"]


def test_empty_lists(tmp_path):
    none = Particles.of(np.zeros((0, 3)), [])
    for star_version in ("relion5", "relion4", "relion3"):
        write_particles(
            tmp_path / "a.star", none, tomogram=tomogram(), convention=star_version, tomogram_name="x"
        )
        assert len(read_particles(tmp_path / "a.star", tomogram=tomogram())) == 0


def test_names_of_tomograms(tmp_path):
    original = Particles.of([[0, 0, 0]], "a")
    write_particles(tmp_path / "a.star", original, tomogram=tomogram(), tomogram_name="rec_TS_01")
    assert read_particles(tmp_path / "a.star", tomogram=tomogram()).tomograms.tolist() == ["TS_01"]
    write_particles(
        tmp_path / "a.star",
        original,
        voxel_size=1.0,
        tomogram_name="rec_TS_01.tomostar",
        convention="relion3",
    )
    assert read_particles(tmp_path / "a.star").tomograms.tolist() == ["rec_TS_01.tomostar"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "not a STAR file"),
        ("", "no particle coordinates"),
        ("data_x\n_a 1\n", "blocks: data_x"),
        ("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateZ\n1 2\n", "no rlnCoordinateY"),
        (
            "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n1 2 3\n1 x 3\n",
            "particle 2.*'x'",
        ),
        ("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n1 2 3 4\n", "not a STAR file"),
        (
            "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n1 nan 3\n",
            "particle 1: rlnCoordinateY is 'nan', not a finite",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, text, message):
    (tmp_path / "a.star").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_particles(tmp_path / "a.star", voxel_size=1.0)


def test_what_is_missing_is_asked_for(tmp_path):
    original = Particles.of([[0, 0, 0]], "a")
    with pytest.raises(RequestError) as caught:
        write_particles(tmp_path / "a.star", original)
    assert "--tomogram" in caught.value.remedy
    with pytest.raises(RequestError) as caught:
        write_particles(tmp_path / "a.star", original, convention="relion4")
    assert "--voxel-size" in caught.value.remedy
    with pytest.raises(RequestError, match="center"):
        write_particles(tmp_path / "a.star", original, tomogram=tomogram(), center="corner")
    with pytest.raises(RequestError, match="relion9"):
        write_particles(tmp_path / "a.star", original, convention="relion9")
    assert not list(tmp_path.iterdir())


# file of formats/ -> particles, and the first position as x, y, z in Å
READ = {
    "cryocat/bin6_TM_starfile.star": (177, (3751.516, 3996.121, 1630.834)),
    "cryocat/relion_3.0.star": (3, (1028.455 * 5.364, 733.955 * 5.364, 422.955 * 5.364)),
    "cryocat/relion_3.1_optics.star": (3, (915.549 * 2.446 + 0.25289, 3624.31987, 2287.12046)),
    "cryocat/relion_4.0.star.gz": (
        1746,
        (1700 * 1.971 - 1.260416, 428 * 1.971 - 2.364176, 944 * 1.971 - 3.783296),
    ),
    "cryocat/warp2_particles_matching.star.gz": (1218, (354.242 * 0.7894, 397.132 * 0.7894, 75.828 * 0.7894)),
    "cryoet_portal/relion_3_star.star": (6, (5.2 * 1.7005, 10.4 * 1.7005, 15.2 * 1.7005)),
    "cryoet_portal/relion_4_star.star": (6, (5.2, 10.4, 15.2)),
    "relion5_jobs/particles.star": (5, (-176.94 + 42 * 10.52, 765.48005 + 68 * 10.52, 11.16 + 22 * 10.52)),
    "relion5_jobs/run_it025_data.star": (10, None),
    "relion5_jobs/run_it050_data.star": (
        5,
        (-176.94 + 42 * 10.52 + 2.41904, 765.48005 + 68 * 10.52 - 2.498456, None),
    ),
    "relion5_subtomo2d/Extract__job001_filled__particles.star": (2, None),
    "relion_misc/CCDC147C_001_14.00Apx_particles.star.gz": (1500, (358 * 14, 489 * 14, 134 * 14)),
}


def test_third_party_files_are_right_or_refused(shared_data):
    folder = shared_data / "formats"
    checked = 0
    for path in sorted(folder.rglob("*.star*")):
        name = str(path.relative_to(folder))
        around = dict.fromkeys(("TS_01", "TS_02", "session1_TS_1"), tomogram((44, 136, 84), 10.52))
        if name not in READ:
            with pytest.raises(
                RequestError, match=r"no particle coordinates|size is not known|of unknown size|not there"
            ) as caught:
                read_particles(path)
            assert caught.value.where == str(path)
            continue
        checked += 1
        loaded = read_particles(path, tomogram=around if name.startswith("relion5") else None)
        count, first = READ[name]
        assert len(loaded) == count
        for value, wanted in zip(loaded.positions[0, ::-1], first or (), strict=bool(first)):
            assert wanted is None or value == pytest.approx(wanted, abs=1e-2)
    assert checked == len(READ)


def test_starfile_agrees_on_columns_of_third_party_files(shared_data, tmp_path):
    import starfile

    for name in ("cryocat/bin6_TM_starfile.star", "relion5_jobs/run_it050_data.star"):
        path = shared_data / "formats" / name
        table = starfile.read(path, always_dict=True)["particles"]
        loaded = read_particles(path, tomogram=dict.fromkeys(("TS_01", "TS_02"), tomogram()))
        angles = table[relion.ANGLES].to_numpy(float)
        np.testing.assert_allclose(loaded.rotations, rotations_of(angles), atol=1e-9)
        places = {*relion.PIXELS, *relion.CENTERED, "rlnMicrographName", "rlnTomoName"}
        assert set(loaded.extra) == set(table.columns) - places


MANY_TAGS = (
    *relion.CENTERED, *relion.SHIFTS, *relion.ANGLES, *relion.FRAMES, "rlnAngleTiltPrior", "rlnAnglePsiPrior",
    "rlnTomoName", "rlnOpticsGroup", "rlnImageName",
)  # fmt: skip
MANY = (
    "data_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\n"
    + "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnVoltage\n_rlnTomoTiltSeriesPixelSize\n"
    + "1 a 300.0 1.35\n2 b 200.0 1.5\n\ndata_particles\n\nloop_\n"
    + "".join(f"_{tag}\n" for tag in MANY_TAGS)
    + "10 20 30  1.5 -2.5 3.5  27.1 92.5 6.6  174.9 90.2 -129.5  90 5  TS_1  2  a.mrcs\n"
    + "-10 5 -30  0.5 2.5 0  10 0 20  172.7 93.3 166.7  90 0  TS_2  1  b.mrcs\n"
)


def test_relion5_to_itself_is_the_identity(tmp_path):
    import starfile

    path, again = tmp_path / "a.star", tmp_path / "b.star"
    path.write_text(MANY)
    around = {"TS_1": tomogram((41, 60, 80)), "TS_2": tomogram((200, 100, 101), 8.0)}
    star.write(again, star.read(path, tomogram=around), tomogram=around)
    before, after = (starfile.read(p, always_dict=True) for p in (path, again))
    assert after["general"] == before["general"]
    assert after["optics"].equals(before["optics"])
    for tag in MANY_TAGS:
        assert after["particles"][tag].tolist() == before["particles"][tag].tolist(), tag


def test_poses_stay_where_frames_cannot_be_written(tmp_path):
    path, again = tmp_path / "a.star", tmp_path / "b.star"
    path.write_text(MANY)
    around = {"TS_1": tomogram(), "TS_2": tomogram()}
    picks = star.read(path, tomogram=around)
    star.write(again, picks, voxel_size=1.5, convention="relion3")
    assert not {"rlnAngleTiltPrior", "rlnTomoSubtomogramRot"} & set(star_table.read_table(again).columns)
    write_particles(tmp_path / "c.csv", picks)
    for back in (star.read(again), read_particles(tmp_path / "c.csv")):
        np.testing.assert_allclose(back.positions, picks.positions, atol=1e-3)
        np.testing.assert_allclose(back.rotations, picks.rotations, atol=1e-6)
    header = (tmp_path / "c.csv").read_text().splitlines()[0].split(",")
    assert not {"rlnOriginXAngst", "rlnTomoSubtomogramRot", "rlnAngleRot"} & set(header)


def test_relion4_counts_in_the_pixels_of_the_optics_groups(tmp_path):
    path, again = tmp_path / "a.star", tmp_path / "b.star"
    path.write_text(MANY)
    picks = star.read(path, tomogram={"TS_1": tomogram(), "TS_2": tomogram()})
    star.write(again, picks, convention="relion4")
    table = star_table.read_table(again)
    assert table.blocks["optics"]["rlnTomoTiltSeriesPixelSize"] == ["1.35", "1.5"]
    shifted = picks.positions[:, ::-1] + star_geometry.rotated(
        rotations_of(table.numbers(relion.FRAMES)), table.numbers(relion.SHIFTS)
    )
    np.testing.assert_allclose(table.numbers(relion.PIXELS), shifted / [[1.5], [1.35]], atol=1e-5)
    np.testing.assert_allclose(star.read(again).positions, picks.positions, atol=1e-4)
    star.write(again, picks, convention="relion4", voxel_size=2.0)
    assert star_table.read_table(again).blocks["optics"]["rlnTomoTiltSeriesPixelSize"] == ["2", "2"]
    np.testing.assert_allclose(star.read(again).positions, picks.positions, atol=1e-4)


def test_each_tomogram_has_its_own_center(tmp_path):
    path = tmp_path / "a.star"
    sizes = {"TS_1": tomogram((20, 40, 60)), "TS_2": tomogram((10, 20, 30), 5.0)}
    picks = Particles.of([[10, 20, 30], [5, 15, 25]], "a", tomograms=["TS_1", "TS_2"])
    star.write(path, picks, tomogram=sizes)
    centered = star_table.read_table(path).numbers(relion.CENTERED)
    np.testing.assert_allclose(centered, [[30 - 300, 20 - 200, 10 - 100], [25 - 75, 15 - 50, 5 - 25]])
    np.testing.assert_allclose(star.read(path, tomogram=sizes).positions, picks.positions)
    with pytest.raises(RequestError, match="TS_1, TS_2") as caught:
        star.read(path, tomogram=sizes["TS_1"])
    assert "--tomogram FOLDER" in caught.value.remedy
    with pytest.raises(RequestError, match="TS_1, TS_2"):
        star.write(tmp_path / "b.star", picks, tomogram=sizes["TS_1"])
    with pytest.raises(RequestError, match="TS_2"):
        star.read(path, tomogram={"TS_1": sizes["TS_1"]})
    only = read_particles(path, tomogram=sizes["TS_2"], tomogram_names=["rec_TS_2"])
    np.testing.assert_allclose(only.positions, [[5, 15, 25]])
    with pytest.raises(RequestError, match=r"list of TS_1, TS_2, not of TS_3"):
        read_particles(path, tomogram=sizes["TS_2"], tomogram_names=["TS_3"])


def test_pixels_of_coordinates_and_of_shifts(shared_data):
    folder = shared_data / "field_bugs" / "image-pixel-size"
    from cryovox.formats import read_volume

    volume = read_volume(folder / "TS_1.mrc")
    np.testing.assert_allclose(
        read_particles(folder / "spa31.star", tomogram=volume).positions, [[200, 300, 400]]
    )
    mixed = read_particles(folder / "mix.star", tomogram=volume)
    np.testing.assert_allclose(mixed.positions[0, ::-1], [390, 300, mixed.positions[0, 0]])


# file of good-star -> x, y, z of the first particle, in Å at 2.5 Å per pixel, and how many there are
GOOD = {
    "bom": 1, "cr": 1, "crlf": 1, "noblank": 1, "one": 1, "pairs": 1, "zero": 1, "empty": 0, "brackets": 3,
    "comment": 2, "tabs": 2, "groups": 2,
}  # fmt: skip


def test_odd_but_good_files_of_others(shared_data):
    folder = shared_data / "field_bugs" / "good-star"
    assert set(GOOD) | {"import"} == {path.stem for path in folder.iterdir()}
    for name, count in GOOD.items():
        says = name in ("bom", "cr", "crlf", "noblank", "one", "pairs", "zero", "groups")
        picks = read_particles(folder / f"{name}.star", voxel_size=None if says else 10.0)
        assert len(picks) == count, name
        if says:
            np.testing.assert_allclose(picks.positions[0, ::-1], [400, 300, 200], err_msg=name)
        if name == "tabs":
            np.testing.assert_allclose(picks.positions[0, ::-1], [400, 300, 200])
    assert read_particles(folder / "zero.star").tomograms.tolist() == ["00255"]
    assert read_particles(folder / "groups.star").positions[1, ::-1].tolist() == [390, 300, 200]
    brackets = read_particles(folder / "brackets.star", voxel_size=1.0)
    assert brackets.tomograms.tolist() == ["TS_1", "[a]x", "Anna's_1"]
    assert brackets.extra["rlnTomoVisibleFrames"].tolist() == ["[1,1,0]", "[1,1,1]", "[1,1,1]"]
    assert brackets.extra["rlnTomoParticleName"].tolist()[2] == "a#b"
    assert read_particles(folder / "comment.star", voxel_size=1.0).positions[1].tolist() == [9, 8, 7]
    imported = read_particles(folder / "import.star", voxel_size=2.5)  # names two of these files
    assert set(imported.tomograms.tolist()) == {"TS_1", "TS_2"}
    assert imported.positions[0].tolist() == [50, 75, 100]


def test_scores_of_template_matching_are_read(shared_data):
    loaded = read_particles(shared_data / "formats/relion_misc/CCDC147C_001_14.00Apx_particles.star.gz")
    assert loaded.scores[0] == pytest.approx(0.317795)
    assert (np.diff(loaded.scores) <= 0).all()


def test_file_says_how_it_counts(tmp_path):
    star.write(tmp_path / "a.star", Particles.of([[0, 0, 0]], "a"), tomogram=tomogram(), center="half-1")
    text = (tmp_path / "a.star").read_text()
    assert re.search(r"_cryovoxCentre #1\nhalf-1\n", text)
    (tmp_path / "a.star").write_text(text.replace("\nhalf-1\n", "\ncorner\n"))
    with pytest.raises(RequestError, match="corner"):
        read_particles(tmp_path / "a.star", tomogram=tomogram())
