import json
import sys
from types import SimpleNamespace

from torch import nn

from cryovox.models import MODELS, sizes


def test_the_list_tells_what_every_network_costs(cli, tmp_path):
    told = cli("models", "--json", tmp_path / "list.json")
    assert told.code == 0
    rows = json.loads((tmp_path / "list.json").read_text())
    assert {(row["network"], row["size"]) for row in rows} == {
        (name, size) for name in MODELS for size in sizes(name)
    }
    assert all(name in told.out for name in MODELS)
    assert all(row["parameters"] > 0 and row["flops"] > 0 for row in rows)
    published = next(row for row in rows if (row["network"], row["size"]) == ("deepfinder", "paper"))
    assert published["patch"] == 56
    assert published["parameters"] == 903456
    assert published["flops_per_voxel"] == published["flops"] / 56**3
    line = next(line for line in told.out.splitlines() if line.split()[:2] == ["deepfinder", "paper"])
    assert line.split()[2:5] == ["mask", "56", "0.903"]


class Theirs(nn.Module):
    """A network of another package: no row in the table of sizes, and it looks at values."""

    kind, patch = "mask", 8

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.classify = nn.Conv3d(in_channels, out_channels, kernel_size=1)

    def forward(self, x):
        return self.classify(x) + float(x.max())


def test_a_network_of_another_package_is_counted_too(cli, monkeypatch):
    monkeypatch.setattr(MODELS, "rows", {"theirs": f"{__name__}:Theirs"})
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Theirs=Theirs))
    (line,) = (line for line in cli("models").out.splitlines() if line.startswith("theirs"))
    assert line.split()[:5] == ["theirs", "s", "mask", "8", "0.000"]
    assert float(line.split()[-1]) == 2 * 16 / 1e3


def test_a_model_file_tells_what_it_is(cli, model, tmp_path):
    told = cli("models", model, "--json", tmp_path / "card.json")
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["network"] == "heatmap-unet"
    assert card["voxel_size"] == 14
    assert [s["name"] for s in card["species"]] == ["capsid", "dumbbell"]
    assert card["training"]["steps"] == 3
    assert "heatmap-unet" in told.out
