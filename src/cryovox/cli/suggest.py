"""`cryovox suggest`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro

from cryovox.cli.interface.screen import Meter, check_json, failures, table, write_json
from cryovox.cli.tomograms import print_notes
from cryovox.picking.config import SuggestConfig
from cryovox.workflows.config import SegmentConfig
from cryovox.workflows.devices import Device, keep_freed_memory


def suggest(  # noqa: PLR0913 (the options of a command)
    tomograms: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")],
    /,
    *,
    model: Path,
    out: Path,
    annotated: tuple[Path, ...] = (),
    subset: Path | None = None,
    config: SuggestConfig = SuggestConfig(),
    segment: SegmentConfig = SegmentConfig(),
    device: Device = "auto",
    overwrite: bool = False,
    quiet: bool = False,
    json: Path | None = None,
) -> int:
    """Suggest regions to annotate next.

    Writes suggested.star, suggested.html and the score maps.

    Parameters
    ----------
    tomograms
        Files, folders or patterns.
    model
        Model file.
    out
        Output folder; score maps of `segment`, `find` or an earlier run there are used again.
    annotated
        Particle files with locations that you have annotated or rejected; they are not suggested again.
    subset
        File with the names of the tomograms to use, as `cryovox report` saves it.
    config
        Suggestions.
    segment
        Segmentation.
    device
        Device.
    overwrite
        Replace suggested.star and suggested.html.
    quiet
        Suppress progress output.
    json
        Write the list to this JSON file.
    """
    from cryovox.workflows.inputs import expand
    from cryovox.workflows.subsets import in_subset
    from cryovox.workflows.suggest import suggest as run

    check_json(json)
    keep_freed_memory()
    tomograms = tuple(in_subset(tomograms, subset))
    meter = Meter(quiet)
    places, failed = run(
        list(tomograms),
        model,
        out,
        segment,
        config,
        labeled=annotated,
        device=device,
        overwrite=overwrite,
        command=shlex.join(["cryovox", *sys.argv[1:]]),
        on_progress=meter,
        on_note=lambda name, text: print(f"note: {name}: {text}", file=sys.stderr),
    )
    print_notes(out, list(expand(tomograms)))
    columns = ("rank", "tomogram", "species", "x", "y", "z", "score", "uncertainty", "diversity")
    names = [] if places.tomograms is None else places.tomograms.tolist()
    rows = [
        [i + 1, name, str(places.species[i]), *places.positions[i, ::-1].round(1).tolist()]
        + [float(column[i]) for column in (places.scores, *(places.extra[c] for c in columns[7:]))]
        for i, name in enumerate(names)
    ]
    print(table(columns, rows))
    write_json(json, [dict(zip(columns, row, strict=True)) for row in rows])
    if rows:
        print(f"x, y, z in Å; page: {out / 'suggested.html'}")
        print("next: open it, add the particles to dataset.yaml, and train again")
    elif not failed:
        print("no candidates are left: lower --min-score, or use other tomograms")
    return failures(failed)
