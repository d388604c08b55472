"""Advice that the program gives names commands and options that exist."""

import ast
import re
import warnings
from functools import cache
from pathlib import Path

import pytest
import tyro

import cryovox
from cryovox.cli import _commands, command_of
from cryovox.cli.interface.parse import _style

PACKAGE = Path(cryovox.__file__).parent
ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]+(?:\.[a-z0-9-]+)*)")
EVERYWHERE = {"help", "help-all", "config", "print-config", "version", "preset"}
OF_OTHERS = {"nthreads"}
"""Options of `dask worker` that jobs get."""


def parsed_options(command):
    """Options of a command, as its parser has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(command, config=_style(command))
    return {o.removeprefix("--") for action in parser._actions for o in action.option_strings}


@cache
def options_of(name):
    return parsed_options(command_of(name)) | EVERYWHERE


@cache
def all_options():
    subtomograms = command_of("simulate").preset("subtomogram-50")
    return set().union(parsed_options(subtomograms), *(options_of(name) for name in _commands()))


def written(node):
    """Text of a string or f-string, X for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "X"
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return written(node.left) + written(node.right)
    return "X"


def texts():
    """Every string of the package that is no docstring, and every page, with where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == PACKAGE / "cli" / "copick.py":  # with the options of commands of copick
            continue
        if path.name == "renamed.py":
            continue  # former names of options
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            inside = isinstance(parents.get(node), ast.JoinedStr | ast.FormattedValue | ast.Expr)
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and not inside):
                text = written(node)
                if "--" in text or "cryovox " in text:
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text
    for path in sorted(PACKAGE.rglob("*.html")):
        page = re.sub(r"<style>.*?</style>|\{#.*?#\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        yield path.name, re.sub(r"<[^>]*>|\{\{.*?\}\}|\{%.*?%\}", " X ", page, flags=re.DOTALL)


def command_lines(text):
    """Each `cryovox COMMAND ...` with the options that follow it in the same sentence or code span."""
    for match in re.finditer(r"(?<![\w/.-])(?<!a )cryovox ([a-z][a-z0-9 -]*)([^`\n;,]*)", text):
        words = match[0].split()[1:]
        plain = [w for w in words[:2] if re.fullmatch(r"[a-z][a-z0-9-]*", w)]
        yield plain, OPTION.findall(match[0])


def options_that_do_not_exist(texts):
    return [
        f"{where}: --{option}"
        for where, text in texts
        for option in OPTION.findall(text)
        if option not in all_options() | OF_OTHERS
    ]


def commands_that_do_not_exist(texts):
    names = set(_commands())
    families = {name.split()[0] for name in names}
    wrong = []
    for where, text in texts:
        for words, options in command_lines(text):
            name = " ".join(words) if " ".join(words) in names else (words[0] if words else "")
            if name not in names:
                known = not words or name in families or name in ("COMMAND", "report", "view")
                wrong += [] if known else [f"{where}: cryovox {' '.join(words)}"]
                continue
            wrong += [f"{where}: {name} --{o}" for o in options if o not in options_of(name)]
    return wrong


def test_advised_options_exist():
    assert not options_that_do_not_exist(texts())


def test_advised_commands_exist_and_take_their_options():
    assert not commands_that_do_not_exist(texts())


def commands_of_pages():
    """Commands of the README and of the pages, and the options that their tables and sentences name."""
    folders = ("how-to", "methods", "decisions")  # those of benchmarks show the commands of earlier versions
    pages = [page for name in folders for page in sorted((ROOT / "docs" / name).glob("*.md"))]
    for page in [ROOT / "README.md", ROOT / "docs" / "networks.md", *pages]:
        parts = page.read_text(encoding="utf-8").replace("\\\n", " ").split("```")
        blocks = [part for part in parts[1::2] if part.startswith("sh\n")]
        lines = [line.partition("#")[0] for block in blocks for line in block.splitlines()]
        spans = [span.replace("\n", " ") for part in parts[::2] for span in re.findall(r"`([^`]+)`", part)]
        yield page.name, [code for code in (*lines, *spans) if "cryovox " in code or code.startswith("--")]


@pytest.mark.parametrize(("page", "codes"), list(commands_of_pages()))
def test_pages_name_commands_and_options_that_exist(page, codes):
    texts = [(page, code) for code in codes]
    assert not commands_that_do_not_exist(texts)
    assert not options_that_do_not_exist([text for text in texts if text[1].startswith("--")])


def test_pages_name_many_commands():
    assert sum(len(codes) for _, codes in commands_of_pages()) > 250


def test_wrong_advice_is_noticed():
    assert options_that_do_not_exist([("here", "pass --border-pad")]) == ["here: --border-pad"]
    assert commands_that_do_not_exist([("here", "`cryovox find X --truth Y`")]) == ["here: find --truth"]
    assert commands_that_do_not_exist([("here", "`cryovox fnid X`")])
