"""Hand and contrast of a real ribosome average, by `cryovox match --hand both` with another average as template.

    python benchmarks/hand_of_averages.py --work /tmp/hand [--voxel-size 24] [--angle 24]

The average of *C. reinhardtii* (averages_more/tomoguide_cytoribo) stands in a box of noise as it is, mirrored, with
inverted contrast, and both. The template is EMD-3883. Prints which hand scores higher for each, and by how much.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np

from common import DATA, cryovox, write_result
from cryovox.core.volume import Volume
from cryovox.formats import read_volume, write_volume
from cryovox.formats.resample import resample

NOISE = 0.5
"""Standard deviation of the noise, in those of the average."""
VARIANTS = {"true": (1, 1), "mirrored": (-1, 1), "inverted": (1, -1), "mirrored and inverted": (-1, -1)}
"""Name -> step along x and sign of the gray values."""
NOTE = re.compile(r"the (mirrored template|template as given) scores higher: mean of the best scores ([\d.]+), "
                  r"of the other hand ([\d.]+)")  # fmt: skip


def write_volumes(folder: Path, size: float) -> list[str]:
    """Write the template and all variants; returns their names."""
    averages = DATA / "averages_more"
    template = resample(read_volume(averages / "ribo80s_emd3883_64.mrc.gz"), size)
    write_volume(folder / "template.mrc", Volume(np.asarray(template.data, np.float32), size))
    average = np.asarray(resample(read_volume(averages / "tomoguide_cytoribo.mrc.gz"), size).data, np.float32)
    average = (average - average.mean()) / average.std()
    rng, names = np.random.default_rng(0), []
    for name, (step, sign) in VARIANTS.items():
        box = NOISE * rng.standard_normal([n * 4 // 3 for n in average.shape]).astype(np.float32)
        inside = tuple(
            slice((b - n) // 2, (b - n) // 2 + n) for n, b in zip(average.shape, box.shape, strict=True)
        )
        box[inside] += sign * average[:, :, ::step]
        names.append(name.replace(" ", "-"))
        write_volume(folder / f"{names[-1]}.mrc", Volume(box, size))
    return names


def main() -> None:
    """Search all variants with both hands of the template and print the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--voxel-size", type=float, default=24.0)
    parser.add_argument("--angle", type=float, default=24.0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in write_volumes(options.work, options.voxel_size):
        log = options.work / f"{name}.log"
        log.unlink(missing_ok=True)
        search = ("--hand", "both", "--angle", options.angle, "--tilt-range", -90, 90, "--max-count", 1)
        plain = ("--noise-control", 0, "--threshold", 0.1, "--decoy", "none", "--device", "cpu", "--quiet")
        tomogram, out = options.work / f"{name}.mrc", ("--out", options.work / "out", "--overwrite")
        cryovox("match", options.work / "template.mrc", tomogram, *search, *plain, *out, log=log)
        match = NOTE.search(log.read_text())
        if match is None:
            raise RuntimeError(f"no note about the hand in {log}")
        row = {"average": name, "better": match[1], "score": float(match[2]), "other": float(match[3])}
        is_right = ("mirrored" in match[1]) == name.startswith("mirrored")
        rows.append(row | {"right": is_right})
        print(rows[-1], flush=True)
    print(write_result("hand_of_averages", {"rows": rows}))


if __name__ == "__main__":
    main()
