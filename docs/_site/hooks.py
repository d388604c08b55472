"""Pages that are made when the site is built: commands, Python API, error messages, and notebooks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src"))

import errors  # noqa: E402

PACKAGE = ROOT / "src" / "cryovox"


def on_config(config: Any) -> Any:
    """Put all pages of a folder in the place of its name in the navigation; mkdocs calls this."""
    config["nav"] = [_expanded(item) for item in config["nav"]]
    return config


def _expanded(item: Any) -> Any:
    if isinstance(item, dict):
        return {title: _expanded(part) for title, part in item.items()}
    if isinstance(item, list):
        return [_expanded(part) for part in item]
    if not item.endswith("/"):
        return item
    pages = sorted((ROOT / "docs" / item).glob("*.md"), key=lambda page: (page.stem != "README", page.name))
    return [f"{item}{page.name}" for page in pages]


def on_files(files: Any, config: Any) -> Any:
    """Add generated pages; mkdocs calls this."""
    from mkdocs.structure.files import File

    pages = {
        "reference/commands.md": commands_page(),
        "reference/python.md": python_page(),
        "reference/errors.md": errors.page(PACKAGE),
    }
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{notebook.stem}.md"] = notebook_page(notebook)
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def commands_page() -> str:
    """Help of every command, with all options."""
    from cryovox.cli import _commands, command_of
    from cryovox.cli.interface.help import help_text

    blocks = ["# Commands\n", "What `cryovox COMMAND --help-all` prints.\n"]
    for name in _commands():
        text = help_text(command_of(name), f"cryovox {name}", everything=True)
        blocks.append(f"## cryovox {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(blocks)


def python_page() -> str:
    """The public names, from their docstrings."""
    import cryovox

    blocks = [
        "# Python API\n",
        "Names that `import cryovox` offers. Arrays are (z, y, x), lengths are Å, and position 0 is the center of voxel (0, 0, 0).\n",
    ]
    options = "    options:\n      heading_level: 3\n      show_root_full_path: false\n      show_root_heading: true\n"
    kinds = {"Functions": lambda name: name[0].islower(), "Classes": lambda name: name[0].isupper()}
    for heading, belongs in kinds.items():
        blocks.append(f"## {heading}\n")
        for name, target in sorted(cryovox._PUBLIC.items()):
            if belongs(name) and name != "train_supervised":
                blocks.append(f"::: {target.replace(':', '.')}\n{options}")
    return "\n".join(blocks)


def notebook_page(path: Path) -> str:
    """A notebook as Markdown."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"]).rstrip()
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"
