"""The scores by which candidates of the embedded detector are compared."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from cryovox.core.particles import Particles
from cryovox.simulate.config.scene import FiducialConfig, SceneConfig
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.workflows.training.simulated import read_config

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import embedded

sys.path.pop(0)


def world(positions, tolerance):
    truth = Particles.of(positions, "any", tomograms="one")
    return embedded.World(dataset=None, truth=truth, tolerance=np.array(tolerance))


def test_scores_of_hand_made_picks():
    two = world([(0, 0, 0), (0, 0, 300)], [30.0, 100.0])
    picks = Particles.of(
        [(0, 0, 10), (0, 0, 600), (0, 80, 300)], "particle-40-70", [0.9, 0.8, 0.7], tomograms="one"
    )
    row = embedded.metrics(picks, two)
    assert row["f1"] == pytest.approx(0.8)  # all three picks: 2 hits of 3
    assert row["threshold"] == pytest.approx(0.7)
    assert (row["recall@1x"], row["recall@2x"]) == (0.5, 1.0)
    assert row["average_precision"] == pytest.approx(0.5 + 0.5 * 2 / 3, abs=1e-3)
    assert embedded.metrics(picks.take([]), two)["f1"] == 0.0


def test_gold_and_vesicles_are_no_particles_of_a_world(tmp_path):
    scene = SceneConfig(
        shape=(24, 32, 40),
        voxel_size=20.0,
        counts={"proteasome-20s": 3},
        fiducials=FiducialConfig(count=2),
    )
    config = SimulationConfig(species=("proteasome-20s",), scene=scene)
    opened = embedded.open_world(config, tmp_path)
    assert {str(name) for name in opened.truth.species} == {"proteasome-20s"}
    assert {kind.name for kind in opened.dataset.species} == {"proteasome-20s", "fiducial"}
    assert len(opened.dataset.split("test")) == embedded.TOMOGRAMS
    assert opened.tolerance.min() >= embedded.MIN_DISTANCE
    assert embedded.best_blobs(opened)["sigma"] in embedded.SIGMAS


def test_the_training_has_none_of_the_species_kept_for_the_choice(tmp_path):
    args = argparse.Namespace(
        work=tmp_path, voxel_size=12.0, structures=[str(tmp_path)], processes=0, ribosomes=25,
        whiten=True,
    )  # fmt: skip
    file = embedded.stream_file(args)
    assert yaml.safe_load(file.read_text())["structures"] == [str(tmp_path.resolve())]
    config = read_config(file)
    assert config.voxel_size == 12.0
    assert config.domain.whiten == (0.0, embedded.COARSEST)
    assert config.abundance == {"ribosome-70s": 25, "ribosome-80s": 25}
    assert {*embedded.crowded().species, *embedded.small().species} <= set(config.exclude)
