"""What cryoCAT reads and converts, as a black box: run by the Python of an environment that has it, and not cryovox.

    PYTHON benchmarks/cryocat_reader.py FOLDER PIXEL_SIZE

Reads `a.em`, `a.tbl`, `stopgap.star` and `relion3.star` of the folder, writes `cryocat.json` with coordinates plus shifts
(x, y, z in the unit of cryoCAT) and phi, theta, psi, and converts the RELION list to `converted.em`.
"""

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

FILES = {
    "EmMotl": "a.em",
    "DynamoMotl": "a.tbl",
    "StopgapMotl": "stopgap.star",
    "RelionMotl": "relion3.star",
}


def main() -> None:
    """Read all files; a file that cannot be read gives its error."""
    from cryocat import cryomotl

    folder, size = Path(sys.argv[1]), float(sys.argv[2])
    relion = {"version": 3.1, "pixel_size": size, "binning": 1.0}
    result: dict[str, object] = {"version": version("cryocat")}
    for name, file in FILES.items():
        try:
            table = getattr(cryomotl, name)(str(folder / file), **(relion if name == "RelionMotl" else {})).df
            shifts = table[["shift_x", "shift_y", "shift_z"]].to_numpy(float)
            xyz = table[["x", "y", "z"]].to_numpy(float) + shifts
            angles = table[["phi", "theta", "psi"]].to_numpy(float)
            result[file] = {"xyz": xyz.tolist(), "angles": angles.tolist()}
        except Exception as error:  # whatever it is, it is the outcome
            result[file] = f"{type(error).__name__}: {str(error)[:80]}"
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
