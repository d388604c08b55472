"""The commands of the README can be run from top to bottom: no two write into one folder."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    joined = README.replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines()] + re.findall(r"`(cryovox [^`]*)`", joined)
    return [shlex.split(line, comments=True) for line in lines if line.startswith("cryovox ")]


def test_no_two_commands_write_into_one_folder() -> None:
    outs = [words[words.index("--out") + 1] for words in commands() if "--out" in words]
    assert len(outs) >= 7
    assert sorted(set(outs)) == sorted(outs)


def test_what_commands_read_was_written_before() -> None:
    made = {"my-dataset", "stream:toy"}
    for words in commands():
        for option in ("--data", "--source", "--model", "--picks"):
            for value in [b for a, b in pairwise(words) if a == option and (a != "--model" or "/" in b)]:
                assert value.split("/")[0] in made, (words, value)
        made |= {words[words.index("--out") + 1]} if "--out" in words else set()
