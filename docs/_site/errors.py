"""Messages and remedies of all refusals, read from the source code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ERRORS = ("RequestError", "RunError", "OtherTomogramError")
TOPICS = {
    "cli": "Command line",
    "core": "Names, settings and durations",
    "formats": "Files",
    "simulate": "Simulation",
    "models": "Networks and model files",
    "data": "Training data",
    "training": "Training",
    "inference": "Segmentation and matching",
    "picking": "Picking",
    "metrics": "Evaluation",
    "filters": "Filters",
    "report": "Reports and checks",
    "workflows": "Commands",
    "benchmark": "Benchmarks",
}
"""Heading by folder of the package."""


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """What a refusal says: what is wrong with what, and what to do; `…` stands for what is filled in."""

    topic: str
    where: str
    message: str
    remedy: str
    source: str = ""


def refusals(package: Path) -> list[Refusal]:
    """All refusals of a package, without duplicates."""
    unique: dict[tuple[str, ...], Refusal] = {}
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        topic = TOPICS.get(relative.parts[0], "Other")
        for one in _in_module(path.read_text(encoding="utf-8"), topic, str(relative)):
            unique.setdefault((one.topic, one.where, one.message, one.remedy), one)
    return sorted(unique.values())


def page(package: Path) -> str:
    """The table as Markdown, in alphabetical order of what is refused."""
    parts = [
        "# Error messages\n",
        "Every message that ends a command, with what to do. The table is made from the source code; … stands for names and numbers.\n",
        "Exit code 2: nothing was started. Exit code 1: some inputs failed, or the disk filled.\n",
    ]
    every = refusals(package)
    for topic in dict.fromkeys(TOPICS.values()):
        own = [one for one in every if one.topic == topic]
        if own:
            parts.append(f"\n## {topic}\n\n| what | message | what to do |\n|---|---|---|")
            parts += [
                f"| {_cell(one.where.replace('…', 'the file') if one.where == '…' else one.where)} | {_cell(one.message)} | {_cell(one.remedy)} |"
                for one in own
            ]
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    plain = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return plain if "`" in plain else plain.replace("*", "\\*").replace("_", "\\_")


def _in_module(text: str, topic: str, source: str) -> Iterator[Refusal]:
    tree = ast.parse(text)
    constants = {**_imported(tree), **_constants(tree), **_answers(tree)}
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    owner = {child: f for f in functions for child in ast.walk(f)}  # inner functions come later and win
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS):
            continue
        if any(isinstance(argument, ast.Attribute) and argument.attr == "remedy" for argument in node.args):
            continue  # says again what another refusal says
        names = {**constants, **(_assigned(owner[node], node.lineno) if node in owner else {})}
        texts = [_text(argument, names) for argument in node.args[:3]]
        keywords = {k.arg: _text(k.value, names) for k in node.keywords}
        where, message, remedy = (
            texts[i] if i < len(texts) else keywords.get(name, "…")
            for i, name in enumerate(("where", "message", "remedy"))
        )
        if message.strip("… ") or remedy.strip("… "):
            yield Refusal(topic, where, message, remedy, f"{source}:{node.lineno}")


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """Values of the names of a module."""
    return {
        t.id: n.value
        for n in tree.body
        if isinstance(n, ast.Assign)
        for t in n.targets
        if isinstance(t, ast.Name)
    }


def _imported(tree: ast.Module) -> dict[str, ast.expr]:
    """Values of the constants that a module takes from others of the package."""
    values: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cryovox."):
            file = Path(__file__).parents[2] / "src" / f"{node.module.replace('.', '/')}.py"
            names = {alias.asname or alias.name for alias in node.names if alias.name.isupper()}
            known = _constants(ast.parse(file.read_text(encoding="utf-8"))) if names and file.exists() else {}
            values |= {name: known[name] for name in names & known.keys()}
    return values


def _answers(tree: ast.Module) -> dict[str, ast.expr]:
    """Texts that the functions of a module return, by the name of the function; of several, the last."""
    return {
        f"{function.name}()": node.value
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant | ast.JoinedStr)
    }


def _assigned(function: ast.FunctionDef | ast.AsyncFunctionDef, before: int) -> dict[str, ast.expr]:
    """The default of each argument, and the last value that each name gets above a line; the loop variables of tables of text are left out."""
    arguments = function.args
    values: dict[str, ast.expr] = dict(
        zip([a.arg for a in arguments.args[::-1]], arguments.defaults[::-1], strict=False)
    )
    nodes = [n for n in ast.walk(function) if isinstance(n, ast.Assign) and n.lineno <= before]
    for node in sorted(nodes, key=lambda n: n.lineno):
        for target in node.targets:
            if isinstance(target, ast.Name):
                values[target.id] = node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                values |= {t.id: v for t, v in pairs if isinstance(t, ast.Name)}
    return values


def _text(node: ast.expr, names: dict[str, ast.expr], depth: int = 3) -> str:
    """Text of an expression; … where it is computed."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, names, depth) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        inner = _text(node.value, names, depth - 1) if isinstance(node.value, ast.Name) and depth else "…"
        return inner if len(inner) < 60 else "…"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, names, depth) + _text(node.right, names, depth)
    if isinstance(node, ast.IfExp):
        return _text(node.body, names, depth) + " / " + _text(node.orelse, names, depth)
    if isinstance(node, ast.Name) and node.id in names and depth:
        return _text(names[node.id], names, depth - 1)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "suggestion":
            return "did you mean …?"
        if (answer := names.get(f"{node.func.id}()")) is not None and depth:
            return _text(answer, names, depth - 1)
    return "…"
