"""Loops that are cut out of STAR files are those that the parser of the whole file reads."""

import numpy as np
import pytest

from cryovox.core.errors import RequestError
from cryovox.core.particles import Particles
from cryovox.formats import read_particles, write_particles
from cryovox.formats.particles import star_loops, star_table

HEAD = "data_a\n\n_rlnVoltage 300\n\ndata_particles\n\nloop_\n"
TAGS = "_rlnTomoName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n_rlnCoordinateZ #4\n_rlnImageName #5\n"
ROWS = [f"TS_{i % 3}  {i}.5  {2 * i}.250  -{i}e-1  job/{i:06d}.mrc" for i in range(40)]


def blocks(path):
    return {
        name: {tag: list(column) for tag, column in columns.items()}
        for name, columns in star_table.read_blocks(path).items()
    }


@pytest.mark.parametrize(
    ("body", "is_cut"),
    [
        ("\n".join(ROWS) + "\n", True),
        ("\r\n".join(ROWS) + "\r\n\r\n", True),
        ("\n".join(ROWS) + "\n\ndata_b\n\n_x 1\n", True),
        ("\n".join(ROWS).replace("  ", "\t"), True),
        ("\n\n".join(ROWS) + "\n", True),
        ("\n\n".join(ROWS).replace("  ", "\n"), False),
        ("\n".join(ROWS) + "\n# a comment\n" + "\n".join(ROWS) + "\n", True),
        ("\n".join(ROWS).replace("TS_1", "'TS 1'") + "\n", False),
        ("\n".join(ROWS).replace("TS_1", "\u00c5"), False),
        ("\n".join(ROWS).replace("job/000007", "ba[d]"), False),
        ("\n".join(ROWS).replace("job/000007", "dynein_7"), True),
        ("\n".join(ROWS).replace("job/000007", 40 * "job/"), False),
        ("\n".join(ROWS).replace(" 7.5", " x"), False),
        ("\n".join(ROWS).replace(" 7.5", " 7_5"), False),
    ],
)
def test_blocks_are_the_same(tmp_path, monkeypatch, body, is_cut):
    path = tmp_path / "a.star"
    path.write_bytes((HEAD + TAGS + body).encode())
    assert (star_loops.cut(path.read_bytes(), star_table.NUMBERS)[1] is not None) == is_cut
    here = blocks(path)
    monkeypatch.setattr(star_loops, "cut", lambda data, numbers: (data, None))
    assert here == blocks(path)
    assert len(here["particles"]["rlnTomoName"]) == 40 * (2 if "comment" in body else 1)


@pytest.mark.parametrize("cell", ["_job", "Data_7", "loop_"])
def test_tags_and_reserved_words_are_no_values(tmp_path, cell):
    path = tmp_path / "a.star"
    path.write_text(HEAD + TAGS + "\n".join(ROWS).replace("job/000007.mrc", cell) + "\n")
    with pytest.raises(RequestError, match="is not a STAR file"):
        star_table.read_blocks(path)


def test_long_columns_of_text(tmp_path, monkeypatch):
    """Columns that are kept as bytes come back, and are numbers where they are asked for."""
    n = 3000
    rng = np.random.default_rng(0)
    original = Particles.of(rng.uniform(0, 300, (n, 3)), "a", tomograms="TS_1")
    write_particles(tmp_path / "a.star", original, voxel_size=10.0, convention="relion4")
    text = (tmp_path / "a.star").read_text()
    rows = [line for line in text.splitlines() if line.startswith("TS_1")]
    with_shifts = [f"{line}  {i / 7:.6f}  -2.5  {i / 9:.6f}  job/{i}.mrc" for i, line in enumerate(rows)]
    tags = "".join(f"_rln{name}\n" for name in ("OriginX", "OriginY", "OriginZ", "ImageName"))
    text = text[: text.index("TS_1")] + tags + "\n".join(with_shifts) + "\n"
    (tmp_path / "b.star").write_text(text)
    loaded = read_particles(tmp_path / "b.star")
    columns = star_table.read_blocks(tmp_path / "b.star")["particles"]
    assert all(isinstance(columns[tag], star_table.Texts) for tag in ("rlnOriginX", "rlnImageName"))
    monkeypatch.setattr(star_loops, "cut", lambda data, numbers: (data, None))
    expected = read_particles(tmp_path / "b.star")
    np.testing.assert_array_equal(loaded.positions, expected.positions)
    np.testing.assert_allclose(loaded.positions[:, 1], original.positions[:, 1] + 25, atol=1e-5)
    assert loaded.extra["rlnImageName"][-1] == f"job/{n - 1}.mrc"
    assert loaded.extra.keys() == expected.extra.keys()
    for tag, column in expected.extra.items():
        np.testing.assert_array_equal(loaded.extra[tag], column)
