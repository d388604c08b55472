"""Damaged MRC headers and STAR files: read as they say, or refused; never a crash, a hang or a wrong size.

`make test` runs a part of the mutations and `make test-slow` all of them: 10,000 headers and 2,000 lists.
"""

import resource
import signal
import warnings
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from cryovox.cli import main
from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import mrc, read_header, read_particles, read_volume

HEADERS, LISTS = 10_000, 2_000
PART = 20
"""One of this many mutations is in the quick part."""
SHAPE, SIZE = (6, 8, 10), 7.84
SIZE_FIELDS = ("nx", "ny", "nz", "mode", "mx", "my", "mz", "mapc", "mapr", "maps", "cella")
EXTREME_INTEGERS = (0, 1, -1, 2, 3, 7, 64, 255, 401, 1 << 15, 1 << 16, 1 << 20, (1 << 31) - 1, -(1 << 31))
EXTREME_NUMBERS = (0.0, -1.0, 1.0, 1e-38, 1e38, float("nan"), float("inf"), -float("inf"), 0.78, 78.4)
MOST_MEMORY = 256 << 10
"""kB by which the memory of the process may grow: the files have a few kB."""
MOST_SECONDS = 10


def base_headers(folder: Path) -> list[bytes]:
    """Files of several modes, byte orders and extended headers."""
    rng = np.random.default_rng(0)
    files = []
    for kind in ("f4", "i1", "i2", "u2", "f2"):
        mrc.write(folder / f"{kind}.mrc", Volume((40 * rng.random(SHAPE)).astype(kind), SIZE))
        files.append((folder / f"{kind}.mrc").read_bytes())
    record = np.frombuffer(files[0][:1024], mrcfile.dtypes.HEADER_DTYPE).copy()
    body = np.frombuffer(files[0][1024:], "<f4")
    record["machst"] = [0x11, 0x11, 0, 0]
    big = record.astype(record.dtype.newbyteorder(">")).tobytes() + body.astype(">f4").tobytes()
    record = np.frombuffer(files[1][:1024], mrcfile.dtypes.HEADER_DTYPE).copy()
    record["nsymbt"], record["exttyp"] = 768, b"FEI1"
    extended = record.tobytes() + bytes(768) + files[1][1024:]
    stamped = bytearray(files[1])
    stamped[152:160] = np.array([mrc.IMOD_STAMP, 1], "<i4").tobytes()
    return [*files, big, extended, bytes(stamped)]


def mutated_header(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to four changes of its header, or with another length."""
    data = bytearray(content)
    record = np.frombuffer(data, mrcfile.dtypes.HEADER_DTYPE, 1)  # shares its memory
    names = [name for name in record.dtype.names if record.dtype[name].kind in "if"]
    for _ in range(rng.integers(1, 5)):
        match rng.integers(0, 6):
            case 0:  # any bytes
                at, n = int(rng.integers(0, 1016)), int(rng.integers(1, 9))
                data[at : at + n] = rng.bytes(n)
            case 1:
                data[rng.integers(0, 1024)] ^= 1 << int(rng.integers(0, 8))
            case 2:
                name = names[rng.integers(len(names))]
                is_integer = record.dtype[name].kind == "i"
                record[name] = choice(rng, EXTREME_INTEGERS if is_integer else EXTREME_NUMBERS)
            case 3:
                record["cella"]["xyz"[rng.integers(3)]] = choice(rng, EXTREME_NUMBERS)
            case 4:
                a, b = (names[i] for i in rng.integers(len(names), size=2))
                record[a] = record[b].astype(record.dtype[a].base) if is_moderate(record[b]) else 0
            case 5:
                at = 4 * int(rng.integers(0, 256))
                data[at : at + 4] = data[at : at + 4][::-1]
    if rng.random() < 0.05:
        return bytes(data[: rng.integers(0, len(data))])
    return bytes(data)


def choice(rng, values):
    return values[int(rng.integers(len(values)))]


def is_moderate(value):
    return bool((np.abs(np.nan_to_num(value, nan=1e9, posinf=1e9, neginf=-1e9)) < 1e9).all())


@contextmanager
def limited():
    """Fail if a file takes more than some seconds, or all of them more than some memory."""

    def stop(*_):
        raise TimeoutError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    former = signal.signal(signal.SIGPROF, stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


def answer(read, *args, **settings):
    """What a reader gives, or its refusal; any other error fails the test."""
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)  # of the processor, which may be shared
    try:
        return read(*args, **settings)
    except RequestError as refusal:
        if not (refusal.message and refusal.remedy):
            raise
        return refusal
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def size_of_mrcfile(path: Path) -> tuple[float, ...] | None:
    """Voxel sizes (z, y, x) according to another reader; None if it reads none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with mrcfile.open(path, permissive=True, header_only=True) as file:
                header = file.header
                if header.mode in mrc.MODES and min(int(header[name]) for name in ("mx", "my", "mz")) > 0:
                    return tuple(float(file.voxel_size[axis]) for axis in "zyx")
        except (ValueError, TypeError, OverflowError):
            pass
    return None


def parts(count):
    """Seeds of the mutations in parts, of which `make test` runs the first."""
    step = count // PART
    edges = [*range(0, count, step), count]
    return [
        pytest.param(range(a, b), marks=[pytest.mark.slow] if a else [], id=f"{a}-{b}")
        for a, b in pairwise(edges)
    ]


@pytest.mark.parametrize("seeds", parts(HEADERS))
def test_damaged_headers(tmp_path, seeds):
    bases, path = base_headers(tmp_path), tmp_path / "damaged.mrc"
    accepted = 0
    with limited():
        for seed in seeds:
            rng = np.random.default_rng(seed)
            base = bases[seed % len(bases)]
            content = mutated_header(base, rng)
            path.write_bytes(content)
            header, volume = answer(read_header, path), answer(read_volume, path)
            forced = answer(read_volume, path, 12.5)
            if not isinstance(forced, RequestError):
                assert forced.voxel_size == 12.5
                assert np.array(forced.data).nbytes <= 2 * len(content)  # 4 bits become bytes
            if isinstance(volume, RequestError):
                continue
            accepted += 1
            assert volume.voxel_size == header.voxel_size
            assert np.isfinite(volume.place).all(), seed
            if is_same_size(base, content):
                assert (volume.shape, volume.voxel_size) == (SHAPE, SIZE), seed
            others = size_of_mrcfile(path)
            if others is not None:
                assert volume.voxel_size == pytest.approx(np.mean(others), rel=0.01), seed
    assert len(seeds) // 20 < accepted < len(seeds)


def is_same_size(base: bytes, content: bytes) -> bool:
    """Whether all fields are as before that say size, shape and byte order."""
    a, b = (np.frombuffer(data[:1024], mrcfile.dtypes.HEADER_DTYPE)[0] for data in (base, content))
    return all(a[name].tobytes() == b[name].tobytes() for name in (*SIZE_FIELDS, "machst"))


OPTICS = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnTomoTiltSeriesPixelSize #3
_rlnImagePixelSize #4
1  opticsGroup1  1.35  5.40
2  opticsGroup2  1.35  5.40

"""
RELION4 = (
    OPTICS
    + """data_particles

loop_
_rlnTomoName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnCoordinateZ #4
_rlnOriginXAngst #5
_rlnOriginYAngst #6
_rlnOriginZAngst #7
_rlnAngleRot #8
_rlnAngleTilt #9
_rlnAnglePsi #10
_rlnOpticsGroup #11
_rlnAutopickFigureOfMerit #12
TS_01  100.5  200.25  50.125  1.5  -2.5  0.5  10.0  20.0  -30.0  1  0.5
TS_01  300.5  210.25  70.125  0.0  0.0  0.0  110.0  120.0  30.0  1  0.75
TS_02  120.5  230.25  90.125  0.5  2.5  1.5  -10.0  90.0  0.0  2  1.0
"""
)
RELION5 = "\ndata_general\n\n_rlnTomoSubTomosAre2DStacks  1\n\n" + RELION4.replace(
    "_rlnCoordinateX", "_rlnCenteredCoordinateXAngst"
).replace("_rlnCoordinateY", "_rlnCenteredCoordinateYAngst").replace(
    "_rlnCoordinateZ", "_rlnCenteredCoordinateZAngst"
)
RELION3 = """
data_

loop_
_rlnMicrographName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnCoordinateZ #4
_rlnOriginX #5
_rlnOriginY #6
_rlnOriginZ #7
_rlnMagnification #8
_rlnDetectorPixelSize #9
'TS 01.mrc'  100.5  200.25  50.125  1.5  -2.5  0.5  10000.0  1.35
"TS 01.mrc"  300.5  210.25  70.125  0.0  0.0  0.0  10000.0  1.35
"""
STOPGAP = """
data_stopgap_motivelist

loop_
_motl_idx
_tomo_num
_object
_subtomo_num
_halfset
_orig_x
_orig_y
_orig_z
_score
_x_shift
_y_shift
_z_shift
_phi
_psi
_the
_class
1  1  1  1  A  101  201  51  0.5  0.25  -0.25  0.5  10  20  30  1
2  1  1  2  B  301  211  71  0.75  0.0  0.0  0.0  40  50  60  1
"""
BASE_LISTS = {"relion5": RELION5, "relion4": RELION4, "relion3": RELION3, "stopgap": STOPGAP}
NUMBERS = [
    "nan", "inf", "-inf", "1e400", "1e308", "-1e308", "0", "-1", "-0.0", "1_000", "0x10", "1,5", "1e-300",
    "5.40", "0.001", "1e5", "+1", "--1", "1e", "2", "\u0661",
]  # fmt: skip
TOKENS = [
    "1.35.0", ".", "?", "''", '"', "'", ";", "loop_", "data_", "data_particles", "save_", "stop_", "global_",
    "#", "_rlnCoordinateX", "_rlnImagePixelSize", "_rlnTomoTiltSeriesPixelSize", "\0", "\ufeff",
    "99999999999999999999", "\u00c5", "\u200b", "&#65;", "&#99999999999;",
]  # fmt: skip
SIZE_TAGS = {"relion4": "rlnTomoTiltSeriesPixelSize", "relion3": "rlnDetectorPixelSize"}


def mutated_list(text: str, rng: np.random.Generator) -> bytes:
    """The text with one or two changes of cells, lines or bytes, or cut off."""
    for _ in range(rng.integers(1, 3)):
        lines = text.split("\n")
        rows = [i for i, line in enumerate(lines) if "  " in line]
        at = int(choice(rng, rows) if rng.random() < 0.7 and rows else rng.integers(len(lines)))
        cells = lines[at].split("  ")
        match rng.integers(0, 8):
            case 0 | 1 | 2:
                cells[rng.integers(len(cells))] = choice(rng, NUMBERS)
            case 3:
                cells[rng.integers(len(cells))] = choice(rng, TOKENS)
            case 4:
                lines.insert(at, lines[at])
            case 5:
                i, j = rng.integers(len(cells), size=2)
                cells[i], cells[j] = cells[j], cells[i]
            case 6:
                cells.insert(int(rng.integers(len(cells) + 1)), choice(rng, (*TOKENS, *NUMBERS)))
            case 7:
                where = int(rng.integers(max(1, len(lines[at]))))
                cells = [lines[at][:where] + choice(rng, TOKENS) + lines[at][where + 1 :]]
        lines[at] = "  ".join(cells)
        if rng.random() < 0.1:
            del lines[int(rng.integers(len(lines)))]
        text = "\n".join(lines)
    data = bytearray(text.encode("utf-8"))
    if rng.random() < 0.1:
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    if rng.random() < 0.1:
        del data[int(rng.integers(len(data))) :]
    return bytes(data)


def positions_of_starfile(path: Path, kind: str) -> np.ndarray | None:
    """Positions (z, y, x) in Å of RELION 4 or 3 by another reader; None if it reads none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            blocks = starfile.read(path, always_dict=True)
            rows = blocks["particles" if kind == "relion4" else ""]
            xyz = np.stack([rows[f"rlnCoordinate{axis}"].to_numpy(float) for axis in "XYZ"], axis=1)
            if kind == "relion3":
                size = rows[SIZE_TAGS[kind]].to_numpy(float) * 1e4 / rows["rlnMagnification"].to_numpy(float)
                origin = np.stack([rows[f"rlnOrigin{axis}"].to_numpy(float) for axis in "XYZ"], axis=1)
                return ((xyz - origin) * size[:, None])[:, ::-1]
            optics = blocks["optics"].set_index("rlnOpticsGroup")[SIZE_TAGS[kind]]
            size = optics.loc[rows["rlnOpticsGroup"]].to_numpy(float)
            origin = np.stack([rows[f"rlnOrigin{axis}Angst"].to_numpy(float) for axis in "XYZ"], axis=1)
            return (xyz * size[:, None] - origin)[:, ::-1]
        except Exception:  # of any kind: its errors are not those under test
            return None


FRAME = Volume(np.broadcast_to(np.int8(0), (100, 300, 400)), 5.4)
FRAMES = {"TS_01": FRAME, "TS_02": FRAME, "TS 01": FRAME}


@pytest.mark.parametrize("kind", BASE_LISTS)
def test_lists_before_the_damage(tmp_path, kind):
    (tmp_path / "a.star").write_text(BASE_LISTS[kind])
    picks = read_particles(tmp_path / "a.star", tomogram=FRAMES)
    assert len(picks) in (2, 3)
    if kind in SIZE_TAGS:
        np.testing.assert_allclose(picks.positions, positions_of_starfile(tmp_path / "a.star", kind))


@pytest.mark.parametrize("seeds", parts(LISTS))
def test_damaged_lists(tmp_path, seeds):
    path, accepted = tmp_path / "damaged.star", 0
    kinds = list(BASE_LISTS)
    with limited():
        for seed in seeds:
            kind = kinds[seed % len(kinds)]
            path.write_bytes(mutated_list(BASE_LISTS[kind], np.random.default_rng(seed)))
            alone, picks = answer(read_particles, path), answer(read_particles, path, tomogram=FRAMES)
            for found in (alone, picks):
                if isinstance(found, RequestError):
                    continue
                accepted += 1
                assert np.isfinite(found.positions).all(), seed
                assert np.isfinite(found.scores).all(), seed
                if found.rotations is not None:
                    turned = found.rotations @ found.rotations.swapaxes(1, 2)
                    np.testing.assert_allclose(turned, np.broadcast_to(np.eye(3), turned.shape), atol=1e-9)
                others = positions_of_starfile(path, kind) if kind in SIZE_TAGS else None
                if others is not None and np.isfinite(others).all():  # it takes # in a cell for a comment
                    np.testing.assert_allclose(found.positions, others, atol=1e-6, err_msg=str(seed))
    assert accepted > len(seeds) // 10


@pytest.mark.parametrize("seeds", parts(40 * PART))
def test_doctor_of_damaged_headers(tmp_path, capsys, seeds):
    bases, path = base_headers(tmp_path), tmp_path / "damaged.mrc"
    codes = set()
    with limited():
        for seed in seeds:
            path.write_bytes(mutated_header(bases[seed % len(bases)], np.random.default_rng(seed)))
            codes.add(answer(main, ["doctor", str(path)]))
            told = capsys.readouterr()
            assert "Traceback" not in told.out + told.err
    assert codes <= {0, 2}
