"""A small project with every file that the pages name, made anew for each run of the tests."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import gemmi
import h5py
import mrcfile
import numpy as np
import pytest
import torch
import zarr

from cryovox.core.czii import RADII
from cryovox.core.dataset import Dataset, Entry
from cryovox.core.particles import Particles, Species
from cryovox.core.volume import LabelMap, Volume
from cryovox.formats import dataset as dataset_files
from cryovox.formats import subtomograms, write_labels, write_particles, write_volume
from cryovox.metrics import shrec
from cryovox.models import build
from cryovox.models.card import Card
from cryovox.models.checkpoint import save_model
from cryovox.picking.calibration import Calibration, SpeciesCalibration
from cryovox.simulate.phantom import PhantomConfig, phantom

NAMES = ("TS_01", "TS_02", "TS_03", "TS_07")
CONFIG = PhantomConfig(shape=(32, 64, 64), count=8, snr=2.0, voxel_size=10.0)
SHAPE, VOXEL = CONFIG.shape, CONFIG.voxel_size
RIBOSOME = Species(name="ribosome", label=1, radius=70.0)
MEMBRANE = Species(name="membrane", label=2, radius=30.0, extended=True)
CAPSIDS = 1


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def tomogram(root: Path, name: str, volume: Volume, seed: int) -> None:
    """One tomogram under all names that the pages use, with its halves and masks."""
    for folder in ("", "tomograms", "my-dataset/tomograms"):
        write_volume(root / folder / f"{name}.mrc", volume)
    for sign, half in ((1, "even"), (-1, "odd")):
        noisy = Volume(np.asarray(volume.data) + sign * noise(seed), VOXEL)
        write_volume(root / half / f"{name}.mrc", noisy)
        write_volume(root / f"{name}_{half}.mrc", noisy)
    write_volume(root / "masks" / f"{name}.mrc", Volume(np.ones(SHAPE, np.int8), VOXEL))


def annotations(root: Path, name: str, drawn, picks: Particles) -> None:
    """Label maps and lists: capsids are called ribosomes, and dumbbells membranes."""
    labels, volume = np.asarray(drawn.labels.data), drawn.volume
    write_volume(root / "membranes" / f"{name}.mrc", Volume((labels != CAPSIDS).astype(np.int8), VOXEL))
    ribosomes = LabelMap((labels == CAPSIDS).astype(np.uint8), VOXEL, (RIBOSOME,))
    for file in (f"{name}_labels.mrc", f"my-dataset/labels/{name}.mrc"):
        write_labels(root / file, ribosomes)
    write_labels(
        root / "membrane-dataset" / "labels" / f"{name}.mrc", LabelMap(labels, VOXEL, (RIBOSOME, MEMBRANE))
    )
    for file in (f"{name}.csv", f"{name}.star", f"{name}.tbl", f"picks/{name}.star"):
        write_particles(root / file, picks, tomogram=volume, tomogram_name=name)


def entry(root: Path, name: str, **more) -> Entry:
    return Entry(name=name, tomogram=root / f"{name}.mrc", contrast="dark", **more)


def datasets(root: Path) -> None:
    """`my-dataset`, the same with membranes, another one beside the tomograms, and one of a rest."""

    def write(folder: Path, species, entries) -> None:
        dataset_files.write(folder, Dataset(voxel_size=VOXEL, species=species, entries=tuple(entries)))

    for folder, species in (("my-dataset", (RIBOSOME,)), ("membrane-dataset", (RIBOSOME, MEMBRANE))):
        labels = root / folder / "labels"
        write(
            root / folder,
            species,
            [
                entry(root, name, labels=labels / f"{name}.mrc", split="val" if i else "train")
                for i, name in enumerate(NAMES)
            ],
        )
    few = entry(root, NAMES[0], particles=root / f"{NAMES[0]}.star", exhaustive=False)
    write(root, (RIBOSOME,), [few, *(entry(root, name) for name in NAMES[1:])])
    write(root / "rest", (RIBOSOME,), [entry(root, NAMES[0], box={"y": (32, 64)})])
    shutil.copy(root / "rest" / "dataset.yaml", root / "my-dataset" / "rest.yaml")


def lists(root: Path, picks: Particles, volume: Volume) -> None:
    """Lists under other names, of one tomogram."""
    name = NAMES[0]
    kept = replace(picks, extra={"keep": np.array(["1", "0"] * len(picks))[: len(picks)]})
    write_particles(root / "curated.star", kept, tomogram=volume, tomogram_name=name)
    for stem in ("kept", "no", "yes", "picks", "run_data"):
        write_particles(root / f"{stem}.star", picks, tomogram=volume, tomogram_name=name)
    for stem in ("picks_in_angstrom", "found", "matched", "others", "mine"):
        write_particles(root / f"{stem}.csv", picks, tomogram=volume, tomogram_name=name)
    xyz = picks.positions[:, ::-1]
    rows = "".join(f"{x:.2f},{y:.2f},{z:.2f}\n" for x, y, z in xyz / VOXEL)
    (root / "picks_in_voxels.csv").write_text("x,y,z\n" + rows)
    points = [
        {"type": "point", "location": dict(zip("xyz", row, strict=True))} for row in (xyz / VOXEL).tolist()
    ]
    (root / "mine.ndjson").write_text("".join(json.dumps(point) + "\n" for point in points))
    (root / "subset.txt").write_text("TS_01\nTS_03\n")
    values = ["tomogram,defocus", *(f"{name},{i + 2}" for i, name in enumerate(NAMES))]
    (root / "acquisition.csv").write_text("\n".join(values))


def subtomogram_sets(root: Path, picks: Particles, drawn) -> None:
    """Boxes with masks around the picks."""
    count, box = 12, 16
    corners = np.round(picks.positions / VOXEL).astype(int) - box // 2
    corners = np.clip(np.resize(corners, (count, 3)), 0, np.array(SHAPE) - box)
    cut = [tuple(slice(a, a + box) for a in corner) for corner in corners]
    density, labels = np.asarray(drawn.volume.data), np.asarray(drawn.labels.data)
    for name in ("set", "test", "simulated", "experimental"):
        subtomograms.write(
            root / f"{name}.zarr",
            subtomograms.Subtomograms(
                voxel_size=VOXEL, species=(RIBOSOME,), corners=corners, contrast="dark",
                particles=Particles.of((corners + box / 2) * VOXEL, ["ribosome"] * count),
                images=np.stack([density[part] for part in cut]),
                masks=np.stack([(labels[part] == CAPSIDS).astype(np.uint8) for part in cut]),
            ),
        )  # fmt: skip


def structures(root: Path) -> None:
    """A small chain of alanines as an atomic model, three of them in a folder, and a map."""
    rng = np.random.default_rng(0)
    for file in ("6qzp.cif", "my-structures/one.cif", "my-structures/two.cif", "my-structures/three.cif"):
        model, chain = gemmi.Model(1), gemmi.Chain("A")
        for number, place in enumerate(np.cumsum(rng.normal(scale=8, size=(300, 3)), axis=0) % 90):
            residue = gemmi.Residue()
            residue.name, residue.seqid = "ALA", gemmi.SeqId(number + 1, " ")
            for name, shift in zip(("N", "CA", "C", "O", "CB"), rng.normal(size=(5, 3)), strict=True):
                atom = gemmi.Atom()
                atom.name, atom.element = name, gemmi.Element(name[0])
                atom.pos = gemmi.Position(*(place + shift))
                residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
        structure = gemmi.Structure()
        structure.add_model(model)
        structure.setup_entities()
        (root / file).parent.mkdir(exist_ok=True)
        structure.make_mmcif_document().write_file(str(root / file))
    z, y, x = (np.indices((20, 20, 20)) - 9.5) * VOXEL
    density = np.exp(-(x**2 + y**2 + z**2) / 2 / 30**2) + np.exp(-(x**2 + y**2 + (z - 50) ** 2) / 2 / 15**2)
    write_volume(root / "atp-synthase.mrc", Volume(density.astype(np.float32), VOXEL))


def kaggle(root: Path, volumes, lists_of_picks) -> None:
    """Two runs of the CZII challenge."""
    for run, volume, picks in zip(("TS_5_4", "TS_6_6"), volumes, lists_of_picks, strict=False):
        spacing = Path("ExperimentRuns") / run
        store = zarr.create_group(
            root / "czii/train/static" / spacing / "VoxelSpacing10.000/denoised.zarr", zarr_format=2
        )
        store.create_array("0", data=np.asarray(volume.data))
        scale = {"type": "scale", "scale": [VOXEL] * 3}
        axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]
        levels = [{"path": "0", "coordinateTransformations": [scale]}]
        store.attrs["multiscales"] = [{"version": "0.4", "name": "/", "axes": axes, "datasets": levels}]
        folder = root / "czii/train/overlay" / spacing / "Picks"
        folder.mkdir(parents=True)
        for name in RADII:
            points = [
                {"location": dict(zip("xyz", place[::-1].tolist(), strict=True)), "instance_id": 0}
                for place in picks.positions
            ]
            content = {
                "pickable_object_name": name, "user_id": "curation", "session_id": "0", "run_name": run,
                "voxel_spacing": None, "unit": "angstrom", "points": points, "trust_orientation": True,
            }  # fmt: skip
            (folder / f"{name}.json").write_text(json.dumps(content))


def shrec2021(root: Path) -> None:
    """Ten models, no larger than the planes that are scored."""
    shape = (348, 32, 32)
    for number in range(10):
        folder = root / "shrec2021/full_dataset" / f"model_{number}"
        mask = np.zeros(shape, np.float32)
        mask[170:340:12, 10:20, 10:20] = 4
        data = np.random.default_rng(number).normal(size=shape).astype(np.float32) - 5 * mask
        write_volume(folder / "reconstruction.mrc", Volume(data, VOXEL))
        write_volume(folder / "class_mask.mrc", Volume(mask, VOXEL))
        (folder / "particle_locations.txt").write_text(f"{shrec.CLASSES[4]} 15 15 170 0 0 0\n")


def other_datasets(root: Path, volumes, masks, lists_of_picks) -> None:
    """The layouts of EMPIAR-10499, of images beside masks, and of the Xu lab."""
    for number, volume in enumerate(volumes):
        write_volume(root / "empiar10499/tomograms" / f"TS_{number}.mrc", volume)
        file = root / "empiar10499/particles" / f"TS_{number}.star"
        write_particles(file, lists_of_picks[number], tomogram=volume, tomogram_name=f"TS_{number}")
        for folder in ("FOLDER", "RIBOSOMES"):
            write_volume(root / folder / "images" / f"a{number}.mrc", volume)
            write_volume(root / folder / "masks" / f"a{number}.mrc", Volume(masks[number], VOXEL))
    with h5py.File(root / "FOLDER" / "snrSNR003_prot1c5u_386.h5", "w") as file:
        file["image"], file["label"] = np.asarray(volumes[0].data)[:, :32, :32], masks[0][:, :32, :32]


def stacks(root: Path) -> None:
    """A project of RELION 5 with one particle of 2-D images."""
    size, tilts = 48, np.arange(-60, 61, 3)
    images = np.random.default_rng(0).normal(size=(len(tilts), size, size)).astype(np.float16)
    with mrcfile.new(root / "1_stack2d.mrcs", images) as file:
        file.set_image_stack()
    tags = (
        "TomoName CenteredCoordinateXAngst CenteredCoordinateYAngst CenteredCoordinateZAngst OpticsGroup"
        " TomoVisibleFrames ImageName"
    )
    ones = ",".join("1" for _ in tilts)
    (root / "particles.star").write_text(
        "data_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\ndata_optics\n\nloop_\n_rlnOpticsGroup\n"
        f"_rlnTomoTiltSeriesPixelSize\n_rlnImagePixelSize\n1 {VOXEL / 2} {VOXEL}\n\ndata_particles\n\nloop_\n"
        + "".join(f"_rln{tag}\n" for tag in tags.split())
        + f"TS_01 0 0 0 1 [{ones}] 1_stack2d.mrcs\n"
    )
    z, y, x = (2 * n for n in SHAPE)
    (root / "tomograms.star").write_text(
        "data_global\n\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesPixelSize\n_rlnTomoTiltSeriesStarFile\n"
        f"_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\nTS_01 {VOXEL / 2} TS_01_tilts.star {x} {y} {z}\n"
    )
    rows = "".join(f"0 {tilt} 85\n" for tilt in tilts)
    (root / "TS_01_tilts.star").write_text(
        f"data_TS_01\n\nloop_\n_rlnTomoXTilt\n_rlnTomoYTilt\n_rlnTomoZRot\n{rows}"
    )
    (root / "optimisation_set.star").write_text(
        "data_\n\n_rlnTomoParticlesFile particles.star\n_rlnTomoTomogramsFile tomograms.star\n"
    )


def models(root: Path) -> None:
    """A network that has learned nothing, with a threshold that lets it pick."""
    torch.manual_seed(0)
    small = {"widths": [4, 8], "blocks": [0, 0]}
    scores = SpeciesCalibration(
        scores=[0.0, 1.0], probabilities=[0.1, 0.9], prior=0.5, floor=0.0, particles=50, peaks=100
    )
    calibration = Calibration(species={"ribosome": scores}, basis="held-out").model_dump()
    card = Card(
        network="heatmap-unet", options=small, activation="sigmoid", kind="heatmap", output_stride=2,
        out_channels=1, patch=32, voxel_size=VOXEL, contrast="dark", thresholds={"ribosome": 0.001},
        species=(RIBOSOME,), calibration=calibration,
    )  # fmt: skip
    (root / "run").mkdir()
    for file in ("run/model.safetensors", "model.safetensors"):
        save_model(root / file, build("heatmap-unet", small, 1, 1), card)


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """Tomograms, annotations, structures and a model, under the names that the pages use."""
    root = tmp_path_factory.mktemp("project")
    volumes, masks, lists_of_picks = [], [], []
    for seed, name in enumerate(NAMES):
        drawn = phantom(CONFIG, np.random.default_rng(seed))
        picks = drawn.particles.named("capsid")
        picks = replace(picks, species=np.full(len(picks), "ribosome"))
        tomogram(root, name, drawn.volume, seed)
        annotations(root, name, drawn, picks)
        if not seed:
            lists(root, picks, drawn.volume)
            subtomogram_sets(root, picks, drawn)
        volumes.append(drawn.volume)
        masks.append((np.asarray(drawn.labels.data) == CAPSIDS).astype(np.int8))
        lists_of_picks.append(picks)
    write_volume(root / "TS_01_copy.mrc", volumes[0])
    (root / "TS_01_copy.mrc").rename(root / "TS_01.rec")
    datasets(root)
    structures(root)
    kaggle(root, volumes, lists_of_picks)
    shrec2021(root)
    other_datasets(root, volumes, masks, lists_of_picks)
    stacks(root)
    models(root)
    return root


@pytest.fixture
def workplace(project, tmp_path, monkeypatch) -> Path:
    """A copy of the project as the current folder, with stand-ins for programs that open windows."""
    root = tmp_path / "project"
    shutil.copytree(project, root, copy_function=os.link)
    monkeypatch.chdir(root)
    program = root / "bin" / "chimerax"  # without a display, `view` only prints how to start it
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    return root
