"""One spelling throughout: American, in code, pages and help."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

BRITISH = re.compile(
    r"""
    \w*(?:
        (?:
            normal | initial | standard | random | general | regular | penal | recogn | minim | maxim | summar
            | visual | organ | parametr | parameter | symmetr | raster | character | custom | util | special
            | discret | quant | serial | parallel | emphas | crystall | polar | equal | categor | priorit
        )is(?:e|ed|er|es|ing|ations?)
        | optimis(?:e|ed|er|es|ing|ations?) | real(?:ise|ised|ising) | local(?:ise|ised|ising) | analyse[dr]?
        | colour\w* | favour\w* | behaviour\w* | honour\w* | labour\w* | neighbour\w* | rigour\w*
        | cent(?:re|ring) | metres?\b | fibres? | grey\w* | artefacts? | licence[ds]?
        | catalogues? | judgement\w*
        | (?:label|model|cancel|travel|level|channel|total|signal)l(?:ed|ing) | learnt | spelt
        | whilst | towards
        | misspelt | acknowledgements? | programmes?\b
    )\w*
    """,
    re.IGNORECASE | re.VERBOSE,
)

KEPT = re.compile(
    r"""
    localisation_f1 | \bnormalisation(?=:\ Literal|=data|="cube) | \.normalisation | cryovoxCentre
    | hole_centre
    | \["centre"\] | "centre": | "labelled" | /\ "centres" | \["centres"\] | "?-unlabelled(?:\.zarr)?"
    | --unlabelled | args\.unlabelled | "unlabelled": | "prior_colour" | "prior_restandardised"
    | "unlabelled_(?:ratio|weight)" | "restandardise" | "coloured" | "neighbours": | "slab_centre" | "flavour"
    | optimisation[_\ ]set | target-unlabelled\.zarr | target\}-unlabelled\.zarr | name\}-unlabelled\.zarr
    | template:\ centre | aria-labelledby | CancelledError
    """,
    re.VERBOSE,
)
"""Stored keys, names of files that earlier versions have written, former options, and attributes of HTML."""

WITH_FORMER_NAMES = ("renamed.py", "test_renamed.py", "renamed-options.md", Path(__file__).name)


def british(text: str) -> list[str]:
    """British spellings in a text, but for names that are kept."""
    return [match.group() for match in BRITISH.finditer(KEPT.sub("", text).replace("_", " "))]


def test_the_list_knows_both_spellings():
    assert british("Normalised colours of the centre_of_mass; two neighbours, unlabelled") == [
        "Normalised", "colours", "centre", "neighbours", "unlabelled",
    ]  # fmt: skip
    assert not british("Normalized colors of the center; precise noise, supervised, realistic, optimistic")


def test_no_british_spelling():
    folders = {"src": (".py", ".html"), "docs": (".md",), "tests": (".py",), "benchmarks": (".py",)}
    files = [ROOT / "README.md"]
    files += [f for name, ends in folders.items() for f in (ROOT / name).rglob("*") if f.suffix in ends]
    texts = {f: f.read_text(encoding="utf-8") for f in files if f.name not in WITH_FORMER_NAMES}
    assert not {str(f.relative_to(ROOT)): words for f, text in texts.items() if (words := british(text))}
