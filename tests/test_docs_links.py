"""Every relative link of the pages leads somewhere, and every module or function that they name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """Names of the headings as they are linked to."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    folder = page.parent
    if page.parent.name == "notes":  # remarks are read as part of a page in docs/benchmarks
        folder = ROOT / "docs" / "benchmarks"
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (folder / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    assert list(broken(page)) == []


CODE = re.compile(r"`(?:[a-z_]+\.)*([a-z_]+)\.([A-Za-z_]+)(?:\([^`]*\))?`")
OTHERS = (
    "monai.",
    "nn.",
    "torch.",
    "scipy.",
    "cryovox.commands",
    "optics.model",
)  # libraries; an entry point; a key
FILES = {
    "txt",
    "yaml",
    "mrc",
    "json",
    "star",
    "csv",
    "html",
    "sh",
    "py",
    "toml",
    "md",
    "zarr",
    "safetensors",
    "em",
    "rec",
}


@pytest.fixture(scope="module")
def modules():
    """Text of every module and package, by its last name."""
    texts = {}
    for path in (ROOT / "src").rglob("*.py"):
        name = path.parent.name if path.stem == "__init__" else path.stem
        texts[name] = texts.get(name, "") + path.read_text(encoding="utf-8")
    return texts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_code_exists(page, modules):
    """The last name of a dotted one is a module, or stands in the module before it."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    missing = [
        match[0]
        for match in CODE.finditer(text)
        if match[2] not in FILES
        and not match[0].startswith(tuple(f"`{name}" for name in OTHERS))
        and match[2] not in modules
        and not re.search(rf"\b{match[2]}\b", modules.get(match[1], ""))
    ]
    assert missing == []
