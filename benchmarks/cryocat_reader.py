"""What cryoCAT reads and converts, as a black box: run by the Python of an environment that has it, and not cryovox.

    PYTHON benchmarks/cryocat_reader.py FOLDER PIXEL_SIZE

Reads `a.em`, `a.tbl`, `a.mod`, `stopgap.star` and the RELION lists of the folder, writes `cryocat.json` with coordinates plus shifts
(x, y, z in the unit of cryoCAT) and phi, theta, psi, and converts the list of RELION 3 to `converted.em`.
"""

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

FILES = {
    "a.em": "EmMotl",
    "a.tbl": "DynamoMotl",
    "stopgap.star": "StopgapMotl",
    "relion3.star": "RelionMotl",
    "relion4.star": "RelionMotl",
    "relion5.star": "RelionMotlv5",
}
"""File of the folder -> class that reads it."""


def main() -> None:
    """Read all files; a file that cannot be read gives its error."""
    from cryocat import cryomotl, imod

    folder, size = Path(sys.argv[1]), float(sys.argv[2])
    scale = {"pixel_size": size, "binning": 1.0}
    options = {
        "relion3.star": {"version": 3.1, **scale},
        "relion4.star": {"version": 4.0, **scale},
        "relion5.star": {"input_tomograms": str(folder / "tomograms.star"), **scale},
    }
    result: dict[str, object] = {"version": version("cryocat")}
    for file, name in FILES.items():
        try:
            table = getattr(cryomotl, name)(str(folder / file), **options.get(file, {})).df
            shifts = table[["shift_x", "shift_y", "shift_z"]].to_numpy(float)
            xyz = table[["x", "y", "z"]].to_numpy(float) + shifts
            angles = table[["phi", "theta", "psi"]].to_numpy(float)
            result[file] = {"xyz": xyz.tolist(), "angles": angles.tolist()}
        except Exception as error:  # whatever it is, it is the outcome
            result[file] = f"{type(error).__name__}: {str(error)[:80]}"
    try:
        result["a.mod"] = {
            "xyz": imod.read_mod_file(str(folder / "a.mod"))[["x", "y", "z"]].to_numpy(float).tolist()
        }
    except Exception as error:
        result["a.mod"] = f"{type(error).__name__}: {str(error)[:80]}"
    try:
        cryomotl.relion2emmotl(
            str(folder / "relion3.star"),
            3.1,
            output_motl_path=str(folder / "converted.em"),
            pixel_size=size,
            binning=1.0,
        )
    except Exception as error:
        result["converted.em"] = f"{type(error).__name__}: {str(error)[:80]}"
    (folder / "cryocat.json").write_text(json.dumps(result))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.seterr(all="ignore")
        main()
