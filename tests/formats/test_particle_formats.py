"""Round trips of particle formats, beside other programs, and third-party files."""

import json
import pickle
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.core.volume import Volume
from cryovox.formats import is_particles, is_volume, read_header, read_particles, write_particles
from cryovox.formats.particles import conventions, conventions_page
from cryovox.formats.particles.convention import Convention

FORMATS = [
    ("a.star", "relion5"),
    ("a.star", "relion4"),
    ("a.star", "relion3"),
    ("a.star.gz", "stopgap"),
    ("a.tbl", None),
    ("a.em", None),
    ("a.json", None),
    ("a.json", "eman2"),
    ("a.json", "cets"),
    ("a.ndjson.gz", None),
    ("a.xml", None),
    ("a.xml", "pytom"),
    ("a.cmm", None),
    ("a.cxc", None),
    ("a.tsv", None),
    ("a.csv", "czii"),
    ("a.mod", None),
    ("a.cbox", None),
    ("a.coords", None),
    ("a.box", None),
    ("a.txt", "shrec"),
    ("a.csv", None),
]


def tomogram(shape, voxel_size):
    return Volume(np.broadcast_to(np.int8(0), shape), voxel_size)


DEFAULTS = {
    ".json": "copick",
    ".xml": "deepfinder",
    ".csv": "table",
    ".tsv": "table",
    ".txt": "shrec",
    ".box": "box",
}


def convention_of(name, star_version):
    suffix = "." + name.split(".")[1]
    key = star_version or DEFAULTS.get(suffix)
    rows = conventions()
    return rows[key] if key else next(row for row in rows.values() if suffix in row.extensions)


def angle_between(a, b):
    return np.degrees(Rotation.from_matrix(a @ np.swapaxes(b, 1, 2)).magnitude())


@pytest.mark.parametrize(("name", "star_version"), FORMATS)
@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(20, 900), min_size=3, max_size=3, unique=True),
    voxel_size=st.sampled_from([0.675, 1.35, 2.7, 5.4, 10.8, 13.48]),
    n=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(tmp_path_factory, name, star_version, shape, voxel_size, n, seed):
    """Positions to 1e-3 or 1e-4 Å, orientations to 1e-4 degrees, scores and species come back."""
    rng = np.random.default_rng(seed)
    frame = tomogram(tuple(shape), voxel_size)
    convention = convention_of(name, star_version)
    one = convention.program in ("copick", "crYOLO", "EMAN2 boxes")
    original = Particles.of(
        rng.uniform(0, 1, (n, 3)) * np.array(shape) * voxel_size,
        "ribosome" if one else [("ribosome", "80S late")[i % 2] for i in range(n)],
        scores=rng.random(n).astype(np.float32),
        rotations=Rotation.random(n, rng=rng).as_matrix(),
        tomograms="TS_01",
    )
    if name == "a.mod":
        pytest.importorskip("imodmodel")
    if convention.program in ("IMOD", "CETS"):
        original = original.take(np.argsort(np.arange(n) % 2, kind="stable"))  # objects are species
    if convention.program == "CZII challenge":
        kinds = np.where(original.species == "ribosome", "ribosome", "apo-ferritin")
        original = replace(original, species=kinds)
    if convention.program == "SHREC":
        original = replace(original, species=np.char.replace(original.species, " ", "_"))
    path = tmp_path_factory.mktemp("round") / name
    tolerance = 1e-3 if convention.program in ("IMOD", "CZII challenge") else 1e-4
    write_particles(path, original, tomogram=frame, convention=star_version)
    loaded = read_particles(path, tomogram=frame, species="ribosome" if one else None)
    np.testing.assert_allclose(loaded.positions, original.positions, rtol=0, atol=tolerance)
    if convention.angles:
        assert angle_between(loaded.rotations, original.rotations).max() < 1e-4
    if convention.score:
        np.testing.assert_allclose(loaded.scores, original.scores, atol=1e-6)
    if convention.species:
        assert loaded.species.tolist() == original.species.tolist()
    if convention.tomogram:
        assert set(loaded.tomograms.tolist()) == {"TS_01"}
    again = path.with_name("b" + name[1:])
    write_particles(again, loaded, tomogram=frame, convention=star_version)
    second = read_particles(again, tomogram=frame)
    np.testing.assert_allclose(second.positions, original.positions, rtol=0, atol=2 * tolerance)


@pytest.mark.parametrize("name", ["a.tbl", "a.em", "a.star"])
def test_several_tomograms_and_sizes(tmp_path, name):
    """Each particle is converted with the voxel size of its tomogram, and the names come back."""
    frames = {"TS_01": tomogram((20, 31, 42), 10.0), "TS_02": tomogram((33, 24, 45), 8.0)}
    original = Particles.of([[100, 80, 160], [50, 70, 90]], ["a", "b"], tomograms=["TS_01", "TS_02"])
    version = "stopgap" if name == "a.star" else None
    write_particles(tmp_path / name, original, tomogram=frames, convention=version)
    loaded = read_particles(tmp_path / name, tomogram=frames)
    np.testing.assert_allclose(loaded.positions, original.positions, atol=1e-4)
    assert loaded.tomograms.tolist() == ["TS_01", "TS_02"]
    assert loaded.species.tolist() == ["a", "b"]


@pytest.mark.parametrize(("name", "star_version"), FORMATS)
def test_shape_of_an_empty_list(tmp_path, name, star_version):
    empty = Particles.of(np.zeros((0, 3)), [])
    write_particles(tmp_path / name, empty, tomogram=tomogram((4, 5, 6), 10.0), convention=star_version)
    if name != "a.txt":  # nothing in an empty text says what it is
        assert len(read_particles(tmp_path / name, tomogram=tomogram((4, 5, 6), 10.0))) == 0


def test_first_voxel_and_shifts(tmp_path):
    """Worked by hand: voxel (z, y, x) = (2, 4, 6) with a shift of (0.5, 0.25, -0.25) in x, y, z at 10 Å."""
    frame = tomogram((8, 16, 32), 10.0)
    expected = [[17.5, 42.5, 65.0]]
    row = "1 1 1 0.5 0.25 -0.25 30 40 50 0.7 0 0 1 0 0 0 0 0 0 1 0 1 0 7 5 3"
    (tmp_path / "a.tbl").write_text(row + "\n")
    tags = "tomo_num orig_x orig_y orig_z x_shift y_shift z_shift phi psi the class"
    motl = "\ndata_stopgap_motivelist\n\nloop_\n" + "".join(f"_{tag}\n" for tag in tags.split(" "))
    (tmp_path / "a.star").write_text(motl + "1 7 5 3 0.5 0.25 -0.25 -50 -30 -40 1\n")
    for name in ("a.tbl", "a.star"):
        loaded = read_particles(tmp_path / name, tomogram=frame)
        np.testing.assert_allclose(loaded.positions, expected)
        # narot, tilt and tdrot of Dynamo are -phi, -the and -psi of TOM and STOPGAP
        turned = Rotation.from_euler("ZXZ", [-30, -40, -50], degrees=True).as_matrix()
        np.testing.assert_allclose(loaded.rotations[0], turned, atol=1e-12)


def test_boxes_of_eman2_count_from_voxel_n_half_rounded_down(tmp_path):
    info = {
        "apix_unbin": 2.5,
        "boxes_3d": [[-4, 8, 0, "manual", 0.9, 1]],
        "class_list": {"1": {"name": "ribo"}},
    }
    (tmp_path / "a.json").write_text(json.dumps(info))
    loaded = read_particles(tmp_path / "a.json", tomogram=tomogram((9, 10, 11), 10.0))
    assert loaded.positions.tolist() == [[40, 70, 40]]
    assert loaded.species.tolist() == ["ribo"]
    with pytest.raises(RequestError, match="--tomogram"):
        read_particles(tmp_path / "a.json")


def test_relion5_centers_differ_by_a_voxel(tmp_path):
    frame = tomogram((9, 10, 11), 10.0)
    particles = Particles.of([[10, 20, 30]], "a")
    for center in ("half", "half-1"):
        write_particles(tmp_path / f"{center}.star", particles, tomogram=frame, center=center)
        loaded = read_particles(tmp_path / f"{center}.star", tomogram=frame)
        np.testing.assert_allclose(loaded.positions, particles.positions)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tbl", "1 2 3\n", "3 columns"),
        ("a.em", "\0" * 600, "no EM file"),
        ("a.json", "{}", "holds no picks"),
        ("a.json", "[", "holds no picks"),
        ("a.json", '{"boxes_3d": 3}', "holds no boxes_3d"),
        ("a.ndjson", '{"location": 3}\n', "holds no points"),
        ("a.xml", "<a>", "not an XML file"),
        ("a.xml", "<a/>", "not <objlist>"),
        ("a.cmm", "<a/>", "not <marker_set>"),
        ("a.cbox", "data_cryolo\nloop_\n_CoordinateX\n_CoordinateY\n1 2\n", "holds no boxes"),
        ("a.box", "1 2 3 4\n", "no z"),
        ("a.tloc", "abc", "no table of TomoTwin"),
        ("a.coords", "1 2 x\n", "is not a number"),
        ("a.tbl", " ".join(["nan"] * 30), "not a finite number"),
    ],
)
def test_files_that_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError) as refusal:
        read_particles(tmp_path / name, tomogram=tomogram((8, 9, 10), 10.0))
    assert message in str(refusal.value)


@pytest.mark.parametrize("name", ["a.tbl", "a.em", "a.xml", "a.cbox", "a.coords", "a.ndjson"])
def test_voxels_of_unknown_size_are_refused(tmp_path, name):
    particles = Particles.of([[10, 20, 30]], "a")
    with pytest.raises(RequestError, match="--out-voxel-size"):
        write_particles(tmp_path / name, particles)
    write_particles(tmp_path / name, particles, voxel_size=10.0)
    if name != "a.tbl":  # which stores its voxel size
        with pytest.raises(RequestError, match="--voxel-size"):
            read_particles(tmp_path / name)
    loaded = read_particles(tmp_path / name, voxel_size=10.0)
    np.testing.assert_allclose(loaded.positions, particles.positions, atol=1e-6)


def test_code_in_a_pickle_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "attacked"), "w"))

    (tmp_path / "a.tloc").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(RequestError, match="not part of a table"):
        read_particles(tmp_path / "a.tloc", voxel_size=10.0)
    assert not (tmp_path / "attacked").exists()


def test_tables_of_pandas_as_tloc(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"X": [1.0, 2.0], "Y": [3.0, 4.0], "Z": [5.0, 6.0], "predicted_class": [0, 1]})
    table.columns = pandas.Index(list(table.columns), dtype=object)
    table.attrs["references"] = ["ribosome.mrc", "vault.mrc"]
    table.to_pickle(tmp_path / "a.tloc")
    loaded = read_particles(tmp_path / "a.tloc", voxel_size=10.0)
    assert loaded.positions.tolist() == [[50, 30, 10], [60, 40, 20]]
    assert loaded.species.tolist() == ["ribosome", "vault"]


def test_shifts_of_copick_are_added_once(tmp_path):
    matrix = np.eye(4)
    matrix[:3, 3] = 1, 2, 3
    picks = {"pickable_object_name": "a", "points": [{"location": {"x": 10, "y": 20, "z": 30}}]}
    for i, shift in enumerate([(1, 2, 3), (10, 20, 30)]):  # a shift, and the location repeated
        matrix[:3, 3] = shift
        picks["points"][0]["transformation_"] = matrix.tolist()
        (tmp_path / f"{i}.json").write_text(json.dumps(picks))
    assert read_particles(tmp_path / "0.json").positions.tolist() == [[33, 22, 11]]
    assert read_particles(tmp_path / "1.json").positions.tolist() == [[30, 20, 10]]
    assert read_particles(tmp_path / "0.json").rotations is None


CETS = {  # as in the examples of the standard
    "id": "picks",
    "annotation_type": "point_matrix_set_3D",
    "name": "ribosome",
    "source_tomogram_id": "TS_1",
    "origin3D": [[10.0, -20.0, 30.0]],
    "matrix3D": [[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]],
    "coordinate_systems": [
        {"name": "physical", "axes": [{"name": a, "axis_unit": "angstrom"} for a in "xyz"]}
    ],
}
CENTERED = [
    {"transformation_type": "translation", "name": "center_array_origin", "translation": [-21, -15, -10]},
    {"transformation_type": "scale", "name": "scale_to_physical", "scale": [10.0, 10.0, 10.0]},
]


def test_frames_of_cets(tmp_path):
    """Worked by hand: a tomogram of 42 x 31 x 20 voxels (x, y, z) of 10 Å, voxel n // 2 is 21, 15, 10."""

    def read(tomograms, **changes):
        region = {"annotations": [{**CETS, **changes}], "tomograms": tomograms}
        (tmp_path / "a.json").write_text(json.dumps({"regions": [region]}))
        return read_particles(tmp_path / "a.json", tomogram=tomogram((20, 31, 42), 10.0))

    steps = {"transformation_type": "sequence", "name": "array_to_physical", "sequence": CENTERED}
    centered = [{"id": "TS_1", "coordinate_transformations": [steps]}]
    corner = [{"id": "TS_1", "coordinate_transformations": [{**CENTERED[1], "name": "array_to_physical"}]}]
    for tomograms in (centered, []):  # of --tomogram, if the file describes none
        assert read(tomograms).positions.tolist() == [[130, 130, 220]]
    loaded = read(corner)
    assert loaded.positions.tolist() == [[30, -20, 10]]
    assert loaded.tomograms.tolist() == ["TS_1"]
    assert loaded.species.tolist() == ["ribosome"]
    np.testing.assert_allclose(loaded.rotations[0] @ [1, 0, 0], [0, 1, 0])
    moved = [
        {"transformation_type": "translation", "name": "annotation_to_tomogram", "translation": [5, 0, 0]}
    ]
    assert read(centered, coordinate_transformations=moved).positions.tolist() == [[130, 130, 225]]
    voxels = [{"name": "array", "axes": [{"name": axis, "axis_unit": "voxel"} for axis in "xyz"]}]
    assert read(centered, coordinate_systems=voxels).positions.tolist() == [[300, -200, 100]]
    for tomograms, changes, message in (
        (centered, {"coordinate_systems": []}, "unit"),
        ([], {"coordinate_systems": voxels}, "voxels of a tomogram"),
        (centered, {"coordinate_transformations": [{**moved[0], "transformation_type": "warp"}]}, "warp"),
    ):
        with pytest.raises(RequestError, match=message):
            read(tomograms, **changes)


def test_only_lists_are_taken_of_a_folder(tmp_path):
    (tmp_path / "manifest.json").write_text('{"version": 1}')
    (tmp_path / "017.xml").write_text("<TiltSeries/>")
    write_particles(tmp_path / "a.json", Particles.of([[1, 2, 3]], "a"))
    write_particles(tmp_path / "a.em", Particles.of([[1, 2, 3]], "a"), voxel_size=1.0)
    listed = sorted(path.name for path in tmp_path.iterdir() if is_particles(path))
    assert listed == ["a.em", "a.json"]


def test_unknown_columns_survive(tmp_path):
    rows = "".join(f"{i} 1 1 0 0 0 0 0 0 0.5 0.25 0 1 -60 60 -60 60 0 0 7 3 1 0 10 10 10\n" for i in (4, 9))
    (tmp_path / "a.tbl").write_text(rows)
    loaded = read_particles(tmp_path / "a.tbl", voxel_size=10.0)
    write_particles(tmp_path / "b.tbl", loaded, voxel_size=10.0)
    stored = np.loadtxt(tmp_path / "b.tbl")
    np.testing.assert_allclose(stored[:, :26], np.loadtxt(tmp_path / "a.tbl"))


@given(
    angles=st.tuples(st.floats(-179, 179), st.floats(1, 179), st.floats(-179, 179)),
    eulers=st.sampled_from(["ZYZ", "ZXZ"]),
    passive=st.booleans(),
)
def test_angles_come_back(angles, eulers, passive):
    convention = Convention("a", (".a",), eulers=eulers, angles=("a", "b", "c"), passive=passive)
    assume(abs(angles[1]) > 1e-3)
    rotations = convention.rotations([angles])
    again = convention.rotations(convention.written_angles(rotations))
    assert angle_between(again, rotations).max() < 1e-5


def test_emfile_agrees(tmp_path):
    emfile = pytest.importorskip("emfile")
    particles = Particles.of([[100, 200, 300], [111, 222.5, 330]], ["class1", "class2"], tomograms=["5", "7"])
    write_particles(tmp_path / "a.em", particles, voxel_size=10.0)
    _, rows = emfile.read(tmp_path / "a.em")
    assert rows.shape == (1, 2, 20)
    np.testing.assert_allclose(
        rows[0, :, 7:13], [[31, 21, 11, 0, 0, 0], [34, 23, 12, 0, 0.25, 0.1]], atol=1e-6
    )
    assert rows[0, :, 4].tolist() == [5, 7]
    assert rows[0, :, 19].tolist() == [1, 2]
    emfile.write(tmp_path / "b.em", np.asarray(rows, dtype=np.float64))  # double precision
    loaded = read_particles(tmp_path / "b.em", voxel_size=10.0)
    np.testing.assert_allclose(loaded.positions, particles.positions, atol=1e-5)


def test_dynamotable_agrees(tmp_path):
    dynamotable = pytest.importorskip("dynamotable")
    turned = Rotation.from_euler("ZXZ", [[-30, -40, -50]], degrees=True).as_matrix()
    particles = Particles.of([[100, 200, 304]], "class3", [0.5], turned, "12")
    write_particles(tmp_path / "a.tbl", particles, voxel_size=10.0)
    row = dynamotable.read(tmp_path / "a.tbl").iloc[0]
    assert [row[c] for c in ("x", "y", "z", "dx", "cc", "apix")] == pytest.approx([31, 21, 11, 0.4, 0.5, 10])
    # zero tilt would leave tdrot and narot undetermined; SciPy gives the tilt as positive
    written = Rotation.from_euler("zxz", [row["tdrot"], row["tilt"], row["narot"]], degrees=True).inv()
    np.testing.assert_allclose(written.as_matrix(), turned[0], atol=1e-7)
    dynamotable.write(dynamotable.read(tmp_path / "a.tbl"), tmp_path / "b.tbl")  # with all 42 columns
    loaded = read_particles(tmp_path / "b.tbl")
    np.testing.assert_allclose(loaded.positions, particles.positions, atol=1e-6)


def test_imodmodel_agrees(tmp_path):
    imodmodel = pytest.importorskip("imodmodel")
    frame = tomogram((20, 31, 42), 10.0)
    particles = Particles.of([[100, 200, 300], [50, 60, 75]], ["a", "b"])
    write_particles(tmp_path / "a.mod", particles, tomogram=frame)
    rows = imodmodel.read(tmp_path / "a.mod")
    np.testing.assert_allclose(rows[["x", "y", "z"]], [[30.5, 20.5, 10], [8.0, 6.5, 5]])
    model = imodmodel.ImodModel.from_file(tmp_path / "a.mod")
    header, first = model.header, model.objects[0].header
    assert (header.xmax, header.ymax, header.zmax, header.objsize) == (42, 31, 20, 2)
    assert (header.pixelsize, header.units) == (10.0, -10)
    assert header.name.startswith("IMOD")  # cryoCAT looks for it
    assert (first.name.strip("\0"), first.contsize, first.pdrawsize) == ("a", 1, 5)
    assert first.flags.scattered
    assert first.flags.open
    assert [first.red, first.green, first.blue] == pytest.approx([0.9, 0.3, 0.3])
    loaded = read_particles(tmp_path / "a.mod")  # with the voxel size of the model
    np.testing.assert_allclose(loaded.positions, particles.positions, atol=1e-3)
    assert loaded.species.tolist() == ["a", "b"]


def test_imod_without_its_library(tmp_path, monkeypatch):
    (tmp_path / "a.mod").write_bytes(b"IMODV1.2")

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("cryovox.formats.particles.imod.import_module", missing)
    with pytest.raises(RequestError, match="pip install"):
        read_particles(tmp_path / "a.mod")


def test_starfile_reads_relion_lists(tmp_path):
    starfile = pytest.importorskip("starfile")
    frame = tomogram((20, 31, 42), 10.0)
    particles = Particles.of([[100, 200, 300]], "a", tomograms="TS_01")
    write_particles(tmp_path / "a.star", particles, tomogram=frame)
    rows = starfile.read(tmp_path / "a.star", always_dict=True)["particles"]
    centered = rows[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    np.testing.assert_allclose(centered, [[300 - 210, 200 - 155, 100 - 100]])


def test_edges_of_a_spatial_graph(shared_data):
    loaded = read_particles(shared_data / "formats" / "amira" / "am3D.CorrelationLines.am")
    assert loaded.extra["edge"].tolist() == [1, 1, 2, 2, 3, 3, 3, 3, 3, 3]


def test_commands_of_chimerax(tmp_path):
    text = "open map.mrc\nmarker #2.1 position 3,2.5,-1e1 color red radius 7\nrename #2.1 ribosome\n"
    (tmp_path / "a.cxc").write_text(text + "marker #3 position 1,2,3\n")
    loaded = read_particles(tmp_path / "a.cxc")
    assert loaded.positions.tolist() == [[-10, 2.5, 3], [3, 2, 1]]
    assert loaded.species.tolist() == ["ribosome", "3"]


THIRD_PARTY = {  # file -> particles, species, has orientations, position of the first as x, y, z in Å at 10 Å
    "amira/am3D.CorrelationLines.am": (10, {"particle"}, False, (5780.063965, 5908.399414, 535.146667)),
    "boxmanager/3d_particle.cbox": (3, {"particle"}, False, (247.57084, 402.21405, 500)),
    "boxmanager/valid.tloc": (14, {"cluster_2", "cluster_3"}, False, (860.68308, 265.46134, 986.55582)),
    "copick/CCDC147C_001_microtubule.json.gz": (597, {"microtubule"}, True, (187.2, 5552.45429, 591.73205)),
    "cryocat/au_1.em": (64, {"particle"}, True, (2288.30197, 1998.93265, 1773.70416)),
    "cryocat/au_2.em": (11, {"particle"}, True, (6520.65549, 6844.6342, 1978.92528)),
    "cryocat/ribosome.em.gz": (1023, {"particle"}, True, None),
    "cryocat/crop.tbl.gz": (4485, {"particle"}, True, (7807.1, 2532.4, 2180)),
    "cryocat/bin6_TM_starfile.star": (177, {"particle"}, True, None),
    "cryocat/relion_3.0.star": (3, {"particle"}, True, None),
    "cryocat/relion_3.1_optics.star": (3, {"particle"}, True, None),
    "cryocat/relion_4.0.star.gz": (1746, {"particle"}, True, None),
    "cryocat/warp2_particles_matching.star.gz": (1218, {"particle"}, True, None),
    "cryoet_portal/copick.json": (4, {"ribosome"}, None, None),
    "cryoet_portal/points.csv": (3, {"particle"}, False, (1, 2, 3)),
    "cryoet_portal/points_tab_delim.csv": (3, {"particle"}, False, (1, 2, 3)),
    "cryoet_portal/points_with_header.csv": (3, {"particle"}, False, (1, 2, 3)),
    "cryoet_portal/pp7_vlp-2.0_point.ndjson": (9, {"pp7_vlp"}, False, (6064.64982, 3336.22573, 1046.96005)),
    "cryoet_portal/relion_3_star.star": (6, {"particle"}, True, None),
    "cryoet_portal/relion_4_star.star": (6, {"particle"}, True, None),
    "cryoet_portal/stopgap_star.star": (6, {"particle"}, True, (18, 46, 78)),
    "deepfinder_xml/tomo1333_objl.xml.gz": (820, {"class1", "class2"}, True, (5920, 7720, 2870)),
    "molstar/geometric_segmentation_input_1.json": (45, {"ribosomes"}, False, (5662.44, 989.8, 1852.2)),
    "pyseg/particles.star": (60, {"particle"}, True, None),
    "pytom/example_starfile.star": (74, {"particle"}, True, None),
    "pytom/pickpos_format.xml": (10, {"particle"}, True, (0, 0, 0)),
    "relion5_subtomo2d/Extract__job001_filled__particles.star": (2, {"particle"}, True, None),
    "relion_misc/CCDC147C_001_14.00Apx_particles.star.gz": (1500, {"particle"}, True, None),
}
IMOD_FILES = {
    "cryocat/correct111.mod": (161, (1280, 6985, -760)),
    "cryoet_portal/points.mod": (3, (5, 15, 30)),
    "imod/multiple_objects_example.mod": (6, None),
    "imod/point_sizes_example.mod": (18, None),
    "imod/two_contour_example.mod": (25, (285.97333, 287.46667, 358.4)),
}
OTHER_FILES = {  # of other kinds, with the reason
    "alignment/TiltSeries_Metrics.csv": "has no column x",
    "alignment/test_CTF.txt": "no header line",
    "amira/am3D.am.gz": "is an image",
    "cryocat/017.xml.gz": "holds <TiltSeries>",
    "cryocat/017_ctffind4.txt": "no header line",
    "cryocat/017_gctf.star": "no particle coordinates",
    "cryocat/relion5_TS_01_tilt.star": "no particle coordinates",
    "cryocat/wedge_list.star": "no particle coordinates",
    "pyseg/mb_seg.star": "no particle coordinates",
    "pyseg/sph_rad5_cent.vtp": "no known particle format",
}


@pytest.mark.parametrize("name", THIRD_PARTY)
def test_third_party_files(shared_data, name):
    count, species, oriented, first = THIRD_PARTY[name]
    loaded = read_particles(shared_data / "formats" / name, tomogram=tomogram((184, 600, 700), 10.0))
    assert len(loaded) == count
    assert set(loaded.species.tolist()) == species
    if oriented is not None:
        assert (loaded.rotations is not None) == oriented
    if first is not None:
        np.testing.assert_allclose(loaded.positions[0], first[::-1], atol=1e-4)


@pytest.mark.parametrize("name", IMOD_FILES)
def test_third_party_models_of_imod(shared_data, name):
    pytest.importorskip("imodmodel")
    count, first = IMOD_FILES[name]
    loaded = read_particles(shared_data / "formats" / name, tomogram=tomogram((184, 600, 700), 10.0))
    assert len(loaded) == count
    if first is not None:
        np.testing.assert_allclose(loaded.positions[0], first[::-1], atol=1e-4)


@pytest.mark.parametrize("name", OTHER_FILES)
def test_files_of_other_kinds_are_refused(shared_data, name):
    with pytest.raises(RequestError) as refusal:
        read_particles(shared_data / "formats" / name, tomogram=tomogram((184, 600, 700), 10.0))
    assert OTHER_FILES[name] in str(refusal.value)


def test_every_file_of_others_is_read_or_refused(shared_data):
    """No file ends in another error than a refusal with a remedy."""
    frame = tomogram((184, 600, 700), 10.0)
    read, refused = [], {}
    for path in sorted(p for p in (shared_data / "formats").rglob("*") if p.is_file()):
        try:
            read.append(read_header(path) if is_volume(path) else read_particles(path, tomogram=frame))
        except RequestError as refusal:
            refused[path.name] = refusal.remedy
    assert len(read) >= 40
    assert all(refused.values())


def test_the_table_of_the_docs_is_that_of_the_code():
    page = Path(__file__).parents[2] / "docs" / "how-to" / "particle-conventions.md"
    text = page.read_text("utf-8")
    assert text == conventions_page.update(text), f"python -m {conventions_page.__name__} {page}"


def test_a_relion_project(tmp_path):
    """An optimisation set, tomograms.star and an import file lead to the particles."""
    frame = {"TS_01": tomogram((20, 31, 42), 10.0), "TS_02": tomogram((33, 24, 45), 10.0)}
    particles = Particles.of([[100, 80, 160], [50, 70, 90]], "a", tomograms=["TS_01", "TS_02"])
    (tmp_path / "Picks").mkdir()
    (tmp_path / "Sets").mkdir()
    write_particles(tmp_path / "Picks" / "particles.star", particles, tomogram=frame)
    write_particles(
        tmp_path / "Picks" / "TS_01.star", particles.within("TS_01"), voxel_size=10, convention="relion4"
    )
    sizes = ["rlnTomoName", "rlnTomoTiltSeriesPixelSize", *(f"rlnTomoSize{axis}" for axis in "XYZ")]
    rows = "TS_01 10 42 31 20\nTS_02 10 45 24 33\n"
    head = "\ndata_global\n\nloop_\n" + "".join(f"_{tag}\n" for tag in sizes)
    (tmp_path / "tomograms.star").write_text(head + rows)
    links = "\ndata_\n\n_rlnTomoParticlesFile Picks/particles.star\n_rlnTomoTomogramsFile tomograms.star\n"
    (tmp_path / "Sets" / "optimisation_set.star").write_text(links)
    table = "\ndata_\n\nloop_\n_rlnTomoName\n_rlnTomoImportParticleFile\nTS_09 Picks/TS_01.star\n"
    (tmp_path / "Sets" / "import.star").write_text(table)
    loaded = read_particles(tmp_path / "Sets" / "optimisation_set.star")
    np.testing.assert_allclose(loaded.positions, particles.positions, atol=1e-4)
    loaded = read_particles(tmp_path / "Sets" / "import.star")
    np.testing.assert_allclose(loaded.positions, [[100, 80, 160]], atol=1e-4)
    assert loaded.tomograms.tolist() == ["TS_09"]
    (tmp_path / "Picks" / "particles.star").unlink()
    with pytest.raises(RequestError, match="not there"):
        read_particles(tmp_path / "Sets" / "optimisation_set.star")


def test_every_module_has_a_convention():
    for key, convention in conventions().items():
        module = import_module(f"cryovox.formats.particles.{key}") if key not in SHARED_MODULES else None
        assert convention.program
        if module is not None:
            assert convention.written == (not hasattr(module, "FORMAT") or module.FORMAT.render is not None)


SHARED_MODULES = {"relion5", "relion4", "relion3", "box"}
