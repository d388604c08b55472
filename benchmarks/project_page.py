"""Size of the project page of many simulated tomograms, and the time in which a browser opens it.

    python benchmarks/project_page.py [--tomograms 200] [--keep FOLDER]

The tomograms are phantoms of 48 x 160 x 160 voxels; their picks are the known particles with scores drawn at
random, written into ten folders with the manifests that `cryovox find` writes. The time in the browser runs from
the start of navigation to the end of the script of the page, in headless Chromium.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from browser import opening
from common import write_result
from cryovox.formats import read_volume, write_volume
from cryovox.formats.particles.manifest import Origin
from cryovox.picking.lamella import Lamella, Plane
from cryovox.simulate.phantom import PhantomConfig, phantom
from cryovox.workflows.config import PickOutput
from cryovox.workflows.manifest import Manifest
from cryovox.workflows.pick import write_picks
from cryovox.workflows.project.page import project_page

FOLDERS = 10
FINDING = (
    "warning",
    "voxel size",
    "the header has no voxel size",
    "cryovox convert IN.mrc OUT.mrc --voxel-size A",
)


def results(folder: Path, name: str, rng: np.random.Generator) -> dict[str, float]:
    """Results of one tomogram as `find` leaves them; returns what is known of its acquisition."""
    tilt, defocus = float(rng.uniform(45, 62)), float(rng.uniform(2, 6))
    config = PhantomConfig(shape=(48, 160, 160), count=int(rng.integers(3, 25)), tilt=tilt, snr=0.8 / defocus)
    drawn = phantom(config, rng)
    path = folder / "tomograms" / f"{name}.mrc"
    write_volume(path, drawn.volume)
    volume = read_volume(path)
    scores = rng.beta(5, 2, len(drawn.particles)).astype(np.float32)
    picks = replace(drawn.particles, scores=scores).take(scores > 0.15 * tilt / 45)
    file = write_picks(name, folder, picks, volume, PickOutput(), Origin())
    half = float(rng.uniform(14, 22))
    lamella = Lamella(
        Plane(24 - half, 0.01, 0.0), Plane(24 + half, 0.0, 0.01), config.shape, config.voxel_size
    )
    counts = {kind: int((picks.species == kind).sum()) for kind in ("capsid", "dumbbell")}
    record = {
        "file": str(file.relative_to(folder)),
        "count": len(picks),
        "lamella": lamella.to_dict(),
        "expected": {k: {"picks": n, "expected_precision": 0.9 - 0.02 * defocus} for k, n in counts.items()},
        "findings": [FINDING] if rng.random() < 0.2 else [],
    }
    more = {"contrast": "dark", "voxel_size": config.voxel_size, "notes": [], "particles": record}
    Manifest(folder, {"command": "cryovox find"}).note(name, {}, {"particles": file}, 30.0, path, **more)
    return {"defocus (µm)": round(defocus, 2), "tilt range (°)": round(2 * tilt, 1)}


def main() -> None:
    """Print what the page takes, and write it to results/project_page.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tomograms", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="folder for data and page, which are deleted otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        rows = []
        for i in range(options.tomograms):
            folder, name = root / f"batch_{i % FOLDERS:02d}", f"TS_{i:03d}"
            rows.append({"tomogram": name, **results(folder, name, np.random.default_rng([0, i]))})
        head = list(rows[0])
        lines = [",".join(head), *(",".join(str(row[key]) for key in head) for row in rows)]
        (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        start, page = time.monotonic(), root / "project.html"
        project_page(sorted(root.glob("batch_*")), page, metadata=root / "metadata.csv")
        result = {
            "tomograms": options.tomograms,
            "size_mb": round(page.stat().st_size / 1e6, 2),
            "seconds_to_write": round(time.monotonic() - start, 1),
            **{k: v for k, v in opening(page).items() if k != "seconds_ready"},
            "load": round(os.getloadavg()[0], 1),
        }
    for key, value in result.items():
        print(f"{key:20}{value}")
    write_result("project_page", result)


if __name__ == "__main__":
    main()
