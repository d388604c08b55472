import json
from pathlib import Path

import numpy as np
import pytest

from cryovox.cli import main
from cryovox.core.config import from_yaml, to_yaml
from cryovox.core.errors import RequestError
from cryovox.core.volume import Volume
from cryovox.formats import write_volume
from cryovox.simulate.config.tomogram import SimulationConfig
from cryovox.simulate.microscope import DetectorConfig, TiltConfig, acquire, radial_amplitude, tilt_scheme
from cryovox.simulate.microscope.experimental_spectrum import experimental_amplitude
from cryovox.simulate.microscope.spectra import multiplicity, ring_count
from cryovox.simulate.particles.library import build_template
from cryovox.simulate.scene import SceneConfig
from cryovox.simulate.tomogram import simulate, target_amplitudes
from cryovox.workflows.simulation.tomogram import Keep, SimulateTomogram

VOXEL = 14.0
SMALL = SimulationConfig(
    species=("groel",),
    scene=SceneConfig(shape=(24, 40, 48), voxel_size=VOXEL, counts={"groel": 2}),
    tilts=TiltConfig(step=15),
    halves="frames",
    detector=DetectorConfig(frames=True),
)


@pytest.fixture(scope="module")
def groel():
    return build_template("groel", VOXEL)


@pytest.fixture
def table(tmp_path):
    """A spectrum that falls, as those of energy filters do."""
    k = np.linspace(0, 0.05, 40)
    np.savetxt(
        tmp_path / "s.csv", np.stack([k, 3 / (1 + 200 * k)], 1), delimiter=",", header="1/A, amplitude"
    )
    return tmp_path / "s.csv"


def colored(n, size, seed=0):
    """White images passed through 1 / (1 + 20 f), f in cycles per pixel."""
    white = np.random.default_rng(seed).standard_normal((n, size, size))
    place = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    return np.fft.irfft2(np.fft.rfft2(white) / (1 + 20 * place), s=(size, size)).astype(np.float32)


def form(rows):
    """Spectra without their scale; the lowest ring holds next to nothing but the mean."""
    return rows[:, 1:] / np.linalg.norm(rows[:, 1:], axis=1, keepdims=True)


@pytest.mark.parametrize("size", [6, 7])
def test_half_a_spectrum_counts_as_the_whole(size):
    image = np.random.default_rng(0).standard_normal((5, size))
    half = np.abs(np.fft.rfft2(image)) ** 2
    assert (half * multiplicity(size)).sum() == pytest.approx((np.abs(np.fft.fft2(image)) ** 2).sum())


def test_a_spectrum_is_the_same_whatever_the_pixels_it_was_measured_with(tmp_path):
    k = (np.arange(16) + 0.5) / 16 * 0.05
    for size in (128, 256):
        write_volume(tmp_path / "fine.mrc", Volume(colored(32, size), 2.5))
        amplitude = experimental_amplitude(tmp_path / "fine.mrc", 10.0, 16)
        assert amplitude[1:] == pytest.approx(1 / (1 + 20 * 2.5 * k[1:]), rel=0.06)
        assert 0.7 < amplitude[0] < 1


def test_the_recorded_projections_get_the_form_of_the_table(groel, table):
    plain = simulate([groel], SMALL, (1,))
    config = SMALL.model_copy(update={"amplitudes": table})
    simulated = simulate([groel], config, (1,))
    wanted = target_amplitudes(config)
    amplitude = radial_amplitude(simulated.series.counts, ring_count((40, 48)))
    assert form(amplitude) == pytest.approx(np.tile(form(wanted[None]), (9, 1)), rel=0.02)
    assert np.abs(form(radial_amplitude(plain.series.counts, 20)) - form(amplitude)).max() > 0.1
    assert simulated.series.counts.var((1, 2)) == pytest.approx(plain.series.counts.var((1, 2)), rel=1e-3)
    assert simulated.series.counts.mean((1, 2)) == pytest.approx(plain.series.counts.mean((1, 2)), rel=1e-4)
    assert simulated.series.frames.sum(0) == pytest.approx(simulated.series.counts, abs=0.1)
    assert simulated.parameters()["microscope"]["amplitudes"] == wanted.tolist()


def test_phases_and_the_ratio_of_signal_to_noise_stay(groel, table):
    plain = simulate([groel], SMALL, (1,)).series
    simulated = simulate([groel], SMALL.model_copy(update={"amplitudes": table}), (1,)).series
    for name in ("noisefree", "noise"):
        before, after = (np.fft.rfft2(getattr(s, name).astype(float)) for s in (plain, simulated))
        strong = np.abs(before) > 0.1 * np.abs(before).mean()
        assert np.abs(np.angle(after * before.conj()))[strong][1:].max() < 1e-2
    ratios = [radial_amplitude(s.signal, 20) / radial_amplitude(s.noise, 20) for s in (plain, simulated)]
    assert ratios[1][:, 1:] == pytest.approx(ratios[0][:, 1:], rel=1e-3)


def test_without_an_example_nothing_is_filtered(groel):
    simulated = simulate([groel], SMALL, (1,))
    assert "amplitudes" not in simulated.parameters()["microscope"]
    tilts, seed = simulated.series.tilts, simulated.series.seed
    again = acquire(
        simulated.scene.potential, VOXEL, tilts, SMALL.optics, SMALL.detector, seed=seed, beyond="mirror"
    )
    assert np.array_equal(simulated.series.counts, again.counts)


def test_the_same_file_gives_the_same_series_and_another_spectrum_another_key(table, tmp_path):
    config = SMALL.model_copy(update={"amplitudes": table})

    def result():
        return SimulateTomogram(tmp_path, config, 0, None, Keep(), "cpu", "")

    one, key = simulate(result().templates, config, (1,)), result().batch_key()
    two = simulate(result().templates, from_yaml_of(config, tmp_path), (1,))
    assert np.array_equal(one.series.counts, two.series.counts)
    assert result().batch_key() == key
    table.write_text("0 1\n0.05 1\n")
    assert result().batch_key() != key


def from_yaml_of(config, folder):
    (folder / "c.yaml").write_text(to_yaml(config))
    return from_yaml(SimulationConfig, folder / "c.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n0.01 1\n", "ends at 0.01"),
        ("100 1\n20 1\n", "begins at 20"),
        ("k a\n0 1\n0.05 x\n", "line 3"),
        ("0 1\n0.05 -1\n", "line 2"),
        ("0 0\n0.05 0\n", "are 0"),
        ("0 1\n", "1 lines"),
        ("", "0 lines"),
    ],
)
def test_tables_that_do_not_fit_are_told(tmp_path, text, message):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(RequestError, match=message):
        experimental_amplitude(tmp_path / "t.txt", VOXEL, 20)


@pytest.mark.parametrize(
    ("image", "pixel", "message"),
    [
        (colored(2, 80), 30.0, "ends at"),
        (colored(2, 80), 1.0, "pixel size"),
        (np.ones((2, 80, 80), np.float32), 10.0, "nothing but one"),
        (np.full((2, 80, 80), np.nan, np.float32), 10.0, "no numbers"),
    ],
    ids=["coarse", "unknown", "flat", "nan"],
)
def test_stacks_that_do_not_fit_are_told(tmp_path, image, pixel, message):
    write_volume(tmp_path / "s.st", Volume(image, pixel))
    with pytest.raises(RequestError, match=message):
        experimental_amplitude(tmp_path / "s.st", VOXEL, 20)


def test_the_command_takes_an_example_and_tells_what_it_took(tmp_path: Path, table, capsys):
    few = ["--scene.shape", "16", "32", "32", "--scene.voxel-size", "14", "--tilts.step", "30", "--species"]
    few += ["groel", "--scene.counts", "groel", "1", "--device", "cpu", "--quiet"]
    assert main(["simulate", "--out", str(tmp_path / "a"), *few, "--amplitudes", str(table)]) == 0
    truth = json.loads((tmp_path / "a" / "truth" / "sim_000.json").read_text())
    assert len(truth["microscope"]["amplitudes"]) == 16
    assert main(["simulate", "--out", str(tmp_path / "b"), *few, "--amplitudes", "none.mrc"]) == 2
    assert "none.mrc" in capsys.readouterr().err


def test_projections_of_an_experiment_can_be_what_another_series_looks_like(groel, tmp_path):
    other = acquire(
        np.zeros((8, 96, 96), np.float32),
        7.0,
        tilt_scheme(TiltConfig(step=30), np.random.default_rng(0)),
        detector=DetectorConfig(mtf_nyquist=0.05),
    )
    write_volume(tmp_path / "e.mrc", Volume(other.counts, 7.0))
    config = SMALL.model_copy(update={"amplitudes": tmp_path / "e.mrc"})
    simulated = simulate([groel], config, (1,)).series
    result, example = radial_amplitude(simulated.counts, 12), radial_amplitude(other.counts, 24)[:, :12]
    assert form(result).mean(0) == pytest.approx(form(example).mean(0), rel=0.06)
