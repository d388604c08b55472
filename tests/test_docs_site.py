"""The documentation site: generated pages, pictures, the notebook, and a strict build."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cryovox
from cryovox.core.errors import RequestError
from cryovox.core.reading import PERMISSIONS

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "_site"
PACKAGE = Path(cryovox.__file__).parent


def load(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", SITE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_of_errors_knows_every_refusal(tmp_path):
    """Messages that commands print stand in the table, and every row has a remedy."""
    errors = load("errors")
    rows = errors.refusals(PACKAGE)
    calls = sum(
        len(re.findall(r"\braise (?:Request|Run)Error\(", f.read_text())) for f in PACKAGE.rglob("*.py")
    )
    assert len(rows) > 0.9 * calls
    assert not [row for row in rows if not row.remedy.strip("… ,.;")]
    with pytest.raises(RequestError) as refusal:
        cryovox.read_volume(tmp_path / "TS_99.mrc")
    assert any(row.message == refusal.value.message for row in rows)
    page = errors.page(PACKAGE)
    assert page.count("\n| ") - page.count("\n| what ") == len(rows)


def test_text_of_a_refusal_is_put_together(tmp_path):
    errors = load("errors")
    module = tmp_path / "core" / "a.py"
    module.parent.mkdir()
    module.write_text(
        'REMEDY = "leave it out"\n'
        "def f(path, n):\n"
        '    message = f"holds {n} values" + " of NaN"\n'
        "    raise RequestError(path, message, REMEDY)\n"
    )
    (row,) = errors.refusals(tmp_path)
    assert (row.where, row.message, row.remedy) == ("…", "holds … values of NaN", "leave it out")
    assert row.source == "core/a.py:4"


def test_remedies_of_arguments_functions_and_other_modules_are_found(tmp_path):
    errors = load("errors")
    (tmp_path / "a.py").write_text(
        "from cryovox.core.reading import PERMISSIONS\n"
        "def advice(n):\n"
        '    return f"cut {n} of them"\n'
        'def f(path, remedy="correct the path"):\n'
        '    raise RequestError(path, "is not there", remedy)\n'
        "def g(path):\n"
        '    raise RequestError(path, "is too long", advice(3))\n'
        "def h(path):\n"
        '    raise RequestError(path, "is locked", PERMISSIONS)\n'
        "def again(path, error):\n"
        "    raise RequestError(path, error.message, error.remedy)\n"
    )
    remedies = {row.message: row.remedy for row in errors.refusals(tmp_path)}
    assert remedies == {
        "is not there": "correct the path",
        "is too long": "cut … of them",
        "is locked": PERMISSIONS,
    }


def test_pages_of_commands_and_python_are_complete():
    hooks = load("hooks")
    from cryovox.cli import _commands

    page = hooks.commands_page()
    assert all(f"## cryovox {name}\n" in page for name in _commands())
    python = hooks.python_page()
    assert all(target.replace(":", ".") in python for target in cryovox._PUBLIC.values())


def test_pictures_are_those_that_the_script_draws(tmp_path):
    pictures = load("pictures")
    from cryovox.report.plotting import svg

    stored = {path.stem for path in pictures.FOLDER.glob("*.svg")}
    assert stored == set(pictures.PICTURES)
    for name, draw in pictures.PICTURES.items():
        text = (pictures.FOLDER / f"{name}.svg").read_text()
        shapes = [part.count("<path") + part.count("<use") for part in (text, svg(draw()).decode())]
        assert shapes[0] == shapes[1], f"{name}: run docs/_site/pictures.py"


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "notebooks" / "python-api.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    names = {}
    for number, text in enumerate(code):
        exec(compile(text, f"cell {number}", "exec"), names)
    assert len(names["found"])
    assert Path("found/report.html").exists()
    assert names["again"].positions.shape == (5, 3)


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'cryovox[docs]'")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install 'cryovox[docs]'")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr
    for page in (
        "start",
        "reference/errors",
        "reference/commands",
        "reference/python",
        "notebooks/python-api",
    ):
        assert (tmp_path / "site" / page / "index.html").exists()
    assert "positions" in (tmp_path / "site" / "reference" / "python" / "index.html").read_text(
        encoding="utf-8"
    )
    shutil.rmtree(tmp_path / "site")
