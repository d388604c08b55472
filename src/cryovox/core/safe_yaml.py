"""YAML without code, and without texts of some lines that stand for gigabytes."""

from __future__ import annotations

from typing import Any

import yaml

MOST_VALUES = 2_000_000
"""Values of a file with its aliases written out; a dataset of 10,000 tomograms has 200,000."""
MOST_LEVELS = 100


def load_yaml(text: str) -> Any:
    """Read YAML; Python objects, recursive aliases and aliases that stand for very much are errors.

    Raises
    ------
    yaml.YAMLError
        With the reason.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    if root is None:
        return None
    if _values(root, {}, 0) > MOST_VALUES:
        raise yaml.YAMLError(f"it holds more than {MOST_VALUES} values")
    try:
        return yaml.safe_load(text)
    except (ValueError, OverflowError, TypeError) as error:  # such as a date that cannot be
        raise yaml.YAMLError(str(error)) from None


def _values(node: Any, known: dict[int, int], level: int) -> int:
    """Values in a node and below it, aliases counted wherever they stand."""
    if level > MOST_LEVELS:
        raise yaml.YAMLError("it is nested too deeply")
    if id(node) not in known:
        children = node.value if isinstance(node.value, list) else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in children for child in pair]
        known[id(node)] = MOST_VALUES + 1  # while it is counted: an alias of itself is refused
        known[id(node)] = 1 + sum(_values(child, known, level + 1) for child in children)
    return known[id(node)]
