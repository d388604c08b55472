"""A run of the ablations is scored on every condition and leaves a picture."""

from PIL import Image

from cryovox.benchmark import SUITES
from cryovox.benchmark.runner import run_suite


def test_a_run_is_scored_on_seen_and_unseen_structures_and_drawn(tmp_path):
    plan = SUITES["ablations"].plan("smoke").select(["no graph", "voxresnet"], "s")
    result = run_suite("ablations", tmp_path, plan, tier="smoke", device="cpu")
    noises = ("SNR inf", "SNR 0.05", "SNR 0.03")
    for run in result["runs"]:
        assert set(run["scores"]) == {f"{kind}, {snr}" for kind in ("seen", "unseen") for snr in noises}
        assert run["steps"] == 2
    folders = [p.parent.name for p in tmp_path.glob("runs/*/activations.png")]
    assert folders == ["no-graph_2-steps_seed0"]
    with Image.open(tmp_path / "runs" / folders[0] / "activations.png") as picture:
        assert picture.width > 500
        assert len({color for _, color in picture.convert("RGB").getcolors(1 << 20)}) > 100
