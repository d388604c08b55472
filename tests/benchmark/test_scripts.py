"""The scripts of `benchmarks` fit the package: what they import from it exists."""

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def imported(script: Path) -> Iterator[tuple[str, str]]:
    """Module of this package and name of each import of a script."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cryovox":
            yield from ((node.module or "", alias.name) for alias in node.names)


def exists(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name) or (
        importlib.util.find_spec(f"{module}.{name}") is not None
    )


@pytest.mark.parametrize("script", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_a_script_imports_what_exists(script):
    assert [pair for pair in imported(script) if not exists(*pair)] == []
