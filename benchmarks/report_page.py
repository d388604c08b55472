"""Size of the report page of one large tomogram, time to write it, and time to the first slice.

    python benchmarks/report_page.py [--shape 184 630 630]

The volume is noise with blobs, which JPEG compresses less than a tomogram. The time to the first slice needs
Chromium, chromedriver and Selenium; it is left out without them.
"""

import argparse
import os
import re
import tempfile
import time
from pathlib import Path

import numpy as np

from browser import opening
from common import write_result
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import ScoreMap, Volume
from cryovox.formats import mrc
from cryovox.report.html import ReportEntry, write_find_report

SPECIES = (Species(name="ribosome", label=1, radius=150.0), Species(name="capsid", label=2, radius=120.0))


def tomogram(folder: Path, shape: tuple[int, int, int], seed: int) -> Path:
    """Noise in a file, plane by plane."""
    rng = np.random.default_rng(seed)
    path = folder / "TS_01.mrc"
    with mrc.create(path, shape, "float32", 10.0, (0.0, 0.0, 0.0), (0, 0, 0)) as data:
        for z in range(shape[0]):
            data[z] = rng.standard_normal(shape[1:], dtype=np.float32)
    return path


def entry(path: Path, picks: int, seed: int) -> ReportEntry:
    """A tomogram with scores of a stride of 2, of which a fifth is above 0.1."""
    rng = np.random.default_rng(seed)
    volume: Volume = mrc.read(path)
    half = [-(-n // 2) for n in volume.shape]
    scores = rng.random((len(SPECIES), *half), dtype=np.float32).astype(np.float16) ** 14
    positions = rng.random((picks, 3)) * (np.array(volume.shape) - 1) * volume.voxel_size
    names = [SPECIES[i % 2].name for i in range(picks)]
    particles = Particles.of(positions, names, 0.3 + 0.7 * rng.random(picks))
    score_map = ScoreMap(scores, 20.0, SPECIES, 5.0)
    return ReportEntry("TS_01", volume, score_map, particles, {s.name: 0.3 for s in SPECIES})


def main() -> None:
    """Print what one page takes, and write it to results/report_page.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(184, 630, 630), metavar=("Z", "Y", "X"))
    parser.add_argument("--picks", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = tomogram(Path(folder), tuple(options.shape), options.seed)
        one = entry(path, options.picks, options.seed)
        wall, processor = time.monotonic(), time.process_time()
        page = Path(folder) / "report.html"
        write_find_report(page, [one], {})
        wall, processor = time.monotonic() - wall, time.process_time() - processor
        sampling = re.search(r'"slices":{"pixel":(\d+),"depth":(\d+)', page.read_text(encoding="utf-8"))
        opened = opening(page)
        result = {
            "shape": list(options.shape),
            "picks": options.picks,
            "size_mb": round(page.stat().st_size / 1e6, 2),
            "seconds_to_write": round(wall, 1),
            "processor_seconds_to_write": round(processor, 1),
            "voxels_per_pixel": int(sampling[1]),
            "voxels_per_slice": int(sampling[2]),
            "seconds_to_first_slice": opened.get("seconds_ready"),
            "processor_seconds_in_browser": opened.get("processor_seconds_in_browser"),
            "load": round(os.getloadavg()[0], 1),
        }
    for name, value in result.items():
        print(f"{name:28}{value}")
    write_result("report_page", result)


if __name__ == "__main__":
    main()
