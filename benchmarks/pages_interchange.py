"""Text of the page about interchange: long lists, hand and contrast of averages, boundary of the sample."""

from __future__ import annotations

from typing import Any

from cryovox.benchmark.tables import grid


def particle_lists(result: dict[str, Any] | None) -> str:
    """Time and memory of long particle lists."""
    if result is None:
        return ""
    rows = [
        [
            row["conversion"],
            row["version"],
            f"{row['processor_s']:.1f} s",
            f"{row['memory_GB']:.2f} GB",
            f"{row['processor_s_of_this / it']:.2f}",
            f"{row['memory_GB_of_this / it']:.2f}",
        ]
        for row in result["best"]
    ]
    count = result["rows"][0]["particles"]
    rounds = 1 + max(row["round"] for row in result["rows"])
    head = ["conversion", "version", "processor time", "memory", "time of this / it", "memory of this / it"]
    return f"""
## Long particle lists

{count:,} particles of 100 tomograms with angles, scores and two species, from RELION 5 STAR to CSV and back. Both versions convert the same
files in turn; the table has the least of {rounds} rounds. The processor was shared with other work, so read the ratios rather than the times.
Positions differ by at most {result["largest_difference_A"]:.0e} Å after both conversions.

{grid(head, rows)}

Command: `{result["command"]}`
"""


def hand_of_averages(result: dict[str, Any] | None) -> str:
    """Hand of a ribosome average by template matching."""
    if result is None:
        return ""
    rows = [
        [
            row["average"],
            row["better"],
            f"{row['score']:.3f}",
            f"{row['other']:.3f}",
            "yes" if row["right"] else "no",
        ]
        for row in result["rows"]
    ]
    head = ["average", "hand that scores higher", "its score", "other hand", "right"]
    return f"""
## Hand of a ribosome average by template matching

The average of *C. reinhardtii* in a box of noise, as it is, mirrored, inverted, and both; `cryovox match --hand both` searches it with
EMD-3883 at 24 Å. `cryovox doctor AVERAGE --reference MAP` compares two averages at their own voxel size, and tells the contrast as well.

{grid(head, rows)}

Command: `{result["command"]}`
"""


def sample_boundary(result: dict[str, Any] | None) -> str:
    """The estimated boundary of the sample in the real tomogram."""
    if result is None:
        return ""
    faces = [
        [row["face"], str(row["nearest_pick"]), str(row["radius"]), f"{row['difference']:+.2f}"]
        for row in result["rows"]
        if "face" in row
    ]
    recall = [
        [
            row["region"],
            str(row["picks"]),
            row["mask"],
            *(f"{row[budget]:.3f}" for budget in ("1x", "2x", "4x")),
        ]
        for row in result["rows"]
        if "region" in row
    ]
    counts = result["counts"]
    return f"""
## Boundary of the sample in the real tomogram

Distance from each estimated face to the nearest pick, along its normal and in voxels of {result["lamella"]["voxel_size"]:g} Å, beside the radius of a ribosome:

{grid(["face", "nearest pick", "radius", "difference"], faces)}

Recall of a difference-of-Gaussians picker at 1, 2 and 4 candidates per pick, with and without the mask that `find` applies. It leaves out
{counts["candidates_outside"]:,} of {counts["candidates"]:,} candidates and {counts["picks_outside"]} picks; the best candidates lie inside already, so recall is the same.

{grid(["region", "picks", "mask", "1x", "2x", "4x"], recall)}

Command: `{result["command"]}`
"""
