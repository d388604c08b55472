"""Simulated tomograms beside the measured one that they were matched to.

The real tomogram (EMPIAR-11658, 31.36 Å) is measured on y < 160. Scenes of ribosomes, other large
complexes and membranes are simulated with the default microscope (unmatched) and with that of the measured
tomogram (matched), and compared with y >= 160: error of the logarithmic power spectrum after z-scoring; AUC of a
classifier of real and simulated patches (0.5: indistinguishable); and recall of the simulated ribosomes by a
difference-of-Gaussians picker.

    python benchmarks/simulator_match.py            # 3 scenes
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from common import DATA, write_result
from cryovox.core.particles import Particles
from cryovox.formats import read_volume
from cryovox.metrics.matching import greedy
from cryovox.picking.blobs import dog
from cryovox.report.simulation_match import simulation_match_page
from cryovox.simulate.presets import PRESETS
from cryovox.simulate.realism.match import match_tomogram
from cryovox.simulate.realism.spectrum import spectrum_rmse, z_score
from cryovox.simulate.realism.statistics import TomogramStatistics, measure_statistics
from cryovox.simulate.realism.two_sample_test import classifier_auc, extract_patches
from cryovox.simulate.scene import SheetConfig, VesicleConfig
from cryovox.simulate.tomogram import SimulatedTomogram, simulate
from cryovox.workflows.simulation.match import match_config
from cryovox.workflows.simulation.templates import templates

TOMOGRAM = DATA / "real_tomograms" / "tomo_171_xlow_31.36A.mrc.gz"
SPLIT = 160  # in y: measured below, scored above
RIBOSOME = "ribosome-80s"
COUNTS = {RIBOSOME: 400, "fatty-acid-synthase": 250, "proteasome-26s": 300, "tric": 500}


def simulate_scene(
    statistics: TomogramStatistics, shape: tuple[int, int, int], seed: int
) -> SimulatedTomogram:
    """Simulate a crowded scene with the slab of the tomogram and default settings otherwise."""
    config = match_config(PRESETS["toy"], statistics)
    scene = config.scene.model_copy(
        update={
            "shape": shape,
            "counts": COUNTS,
            "vesicles": VesicleConfig(count=3, radius=(300.0, 700.0), protein_mass=1.0),
            "sheets": SheetConfig(count=2, protein_mass=1.0),
        }
    )
    config = config.model_copy(update={"species": tuple(COUNTS), "scene": scene})
    return simulate(templates(config.species, statistics.voxel_size), config, (seed, 0))


def blob_recall(data: np.ndarray, voxel: float, truth: Particles, sign: int) -> float:
    """Recall of the ribosomes by a difference-of-Gaussians picker with one candidate per ribosome."""
    blobs = dog(data, voxel, 2.0, sign=sign, species=RIBOSOME, distance=150.0).sorted()
    blobs = blobs.take(np.arange(min(len(blobs), len(truth))))
    return len(greedy(blobs.positions, truth.positions, 100.0, blobs.scores).truth) / len(truth)


def compare(
    real: np.ndarray,
    simulation: SimulatedTomogram,
    matched: np.ndarray,
    statistics: TomogramStatistics,
    seed: int,
) -> dict[str, Any]:
    """All metrics of one scene on the test part."""
    unmatched = np.asarray(simulation.tomogram.data)
    test_part = real[:, SPLIT:]
    truth = simulation.particles.named(RIBOSOME)
    row: dict[str, Any] = {"seed": seed, "placed": simulation.scene.parameters["placed"]}
    for name, data in (("unmatched", unmatched), ("matched", matched)):
        part = data[:, SPLIT:]
        row[name] = {
            "rmse": round(spectrum_rmse(test_part, part), 4),
            "rmse_tilt_axis": round(spectrum_rmse(test_part, part, tilt_axis=True), 4),
            "auc": round(
                classifier_auc(extract_patches(z_score(test_part)), extract_patches(z_score(part)), seed), 4
            ),
            "recall": round(
                blob_recall(
                    data, statistics.voxel_size, truth, -1 if name == "unmatched" else statistics.sign
                ),
                4,
            ),
        }
    mirrored = (np.array(real.shape) - 1) * statistics.voxel_size - truth.positions
    rotated = Particles.of(np.column_stack([truth.positions[:, 0], mirrored[:, 1:]]), RIBOSOME)
    row["recall_noise_free"] = round(
        blob_recall(np.asarray(simulation.clean.data), statistics.voxel_size, truth, -1), 4
    )
    row["recall_of_turned_truth"] = round(
        blob_recall(matched, statistics.voxel_size, rotated, statistics.sign), 4
    )
    row["ratio"] = round(row["matched"]["rmse"] / row["unmatched"]["rmse"], 4)
    return row


def main() -> None:
    """Simulate, compare, and write the result file and a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/simulator_match"), help="folder for the page")
    parser.add_argument("--seeds", type=int, default=3, help="scenes")
    args = parser.parse_args()
    volume = read_volume(TOMOGRAM)
    real = np.asarray(volume.data, np.float32)
    statistics = measure_statistics(real[:, :SPLIT], volume.voxel_size)
    rows = []
    for seed in range(args.seeds):
        simulation = simulate_scene(statistics, real.shape, seed)
        matched = match_tomogram(-simulation.clean.data, statistics, np.random.default_rng([seed, 1]))
        rows.append(compare(real, simulation, matched, statistics, seed))
        print(rows[-1], flush=True)
        if seed == 0:
            args.work.mkdir(parents=True, exist_ok=True)
            page = simulation_match_page(
                real, matched, statistics.voxel_size, unmatched=np.asarray(simulation.tomogram.data)
            )
            (args.work / "match.html").write_text(page, encoding="utf-8")
    ceiling = {
        "rmse": round(spectrum_rmse(real[:, SPLIT:], real[:, : real.shape[1] - SPLIT]), 4),
        "auc": round(
            classifier_auc(
                extract_patches(real[:, SPLIT:]), extract_patches(real[:, : real.shape[1] - SPLIT]), 0
            ),
            4,
        ),
    }
    facts = {
        "slab": statistics.slab,
        "tilts": statistics.tilts,
        "noise_from": statistics.noise_from,
        "share": statistics.share,
    }
    result = {"measured": facts, "counts": COUNTS, "real_against_real": ceiling, "runs": rows}
    ratios = [row["ratio"] for row in rows]
    result["ratio"] = {"mean": round(float(np.mean(ratios)), 4), "limit": 0.3}
    print(write_result("simulator_match", result))


if __name__ == "__main__":
    main()
