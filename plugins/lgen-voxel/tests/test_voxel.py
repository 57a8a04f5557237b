"""The models keep the contract and their sizes, the discriminator waits, and the commands do what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import trimesh
from click.testing import CliRunner, Result
from lgen_voxel import cli
from lgen_voxel.gan import VoxelGAN
from lgen_voxel.vae_gan import VoxelVAEGAN
from lgen_voxel.voxels import Voxels

from lightning_gen import images, launch, volumes
from lightning_gen.data.module import RunData
from lightning_gen.errors import UserError
from lightning_gen.testing import check_model

SMALL = ("--data.resolution", "8", "--data.size", "80", "--data.batch_size", "16", "--kimg", "0.064",
         "--model.width", "4", "--metrics.every_kimg", "0", "--samples.count", "4", "--logger", "none")  # fmt: skip


@pytest.mark.parametrize("name", ["voxel-gan", "voxel-vae-gan"])
def test_the_models_keep_the_contract(name: str) -> None:
    check_model(name)


def test_the_paper_preset_has_the_layers_of_figure_1() -> None:
    with torch.device("meta"):
        model = VoxelGAN(**VoxelGAN.presets["paper"])
        maps, shapes = torch.empty(1, 200), []
        for layer in model.generator.eval():
            maps = layer(maps)
            if isinstance(layer, torch.nn.ConvTranspose3d):
                shapes.append(tuple(maps.shape[1:]))
    assert shapes == [(512, 4, 4, 4), (256, 8, 8, 8), (128, 16, 16, 16), (64, 32, 32, 32), (1, 64, 64, 64)]
    assert sum(p.numel() for p in model.generator.parameters()) == 17_569_665
    assert sum(p.numel() for p in model.discriminator.parameters()) == 11_048_769


@pytest.mark.parametrize("image_shape", [(32, 32, 16), (24, 24, 24), (4, 4, 4), (3, 32, 32)])
def test_other_shapes_than_cubes_of_powers_of_two_are_refused(image_shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="cubes of 8, 16, 32"):
        VoxelGAN(image_shape=image_shape)
    with pytest.raises(UserError, match="cubes of 8, 16, 32"):
        VoxelVAEGAN(image_shape=image_shape)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    from lightning_gen.cli import main

    found = {}
    for name in ("voxel-gan", "voxel-vae-gan"):
        found[name] = str(tmp_path_factory.mktemp("runs") / name)
        more = ["--model.picture", "8"] if name == "voxel-vae-gan" else []
        done = CliRunner().invoke(
            main, ["fit", "--model", name, "--preset", "quick", *SMALL, *more, "--out", found[name]]
        )
        assert done.exit_code == 0, done.output
    return found


def test_the_discriminator_waits_while_it_was_too_accurate() -> None:
    """Two steps from one state, which differ in what the last batch was like."""
    before = {}
    for last in (0.5, 0.9):
        torch.manual_seed(0)
        model = VoxelGAN(**VoxelGAN.presets["quick"] | VoxelGAN.checked)
        model.accuracy.fill_(last)
        weights = model.discriminator[0].weight
        start = weights.detach().clone()
        one_step(model)
        before[last] = weights.equal(start)
    assert before == {0.5: False, 0.9: True}


def one_step(model: VoxelGAN) -> None:
    with launch.quiet():
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(model, datamodule=RunData(Voxels(resolution=8, size=8), 4, 1, seed=0))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def test_meshes_of_samples(runs: dict[str, str], tmp_path: Path) -> None:
    done = run("mesh", runs["voxel-gan"], "--n", "3", "--format", "glb", "--out", str(tmp_path / "meshes"))
    assert done.exit_code == 0, done.output
    for path in (tmp_path / "meshes").iterdir():
        assert len(trimesh.load(path, force="mesh").faces) > 0


def test_a_picture_becomes_a_solid(runs: dict[str, str], tmp_path: Path) -> None:
    solid, picture = str(tmp_path / "solid.npy"), str(tmp_path / "solid.png")
    volume = np.zeros((8, 8, 8), dtype=np.uint8)
    volume[2:6, 2:6, :5] = 1
    np.save(solid, volume)
    assert run("render", solid, "--side", "16", "--out", picture).exit_code == 0
    done = run("build", runs["voxel-vae-gan"], picture, "--grid", str(tmp_path / "both.png"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "both.png").is_file()


def test_scores_are_told_beside_what_can_be_reached(runs: dict[str, str]) -> None:
    told = run("score", runs["voxel-gan"], "--json")
    assert told.exit_code == 0, told.output
    rows = json.loads(told.output)
    rebuilt = json.loads(run("score", runs["voxel-vae-gan"], "--json").output)[cli.REBUILT]
    assert 0 <= rebuilt["overlap"] <= 1 - rebuilt["mmd"]
    assert list(rows) == ["voxel-gan, 80 solids", "training set, 80 solids", "the most usual solid alone"]
    model, training, usual = rows.values()
    assert training["coverage"] > 0.3 > usual["coverage"]
    assert training["mmd"] < min(model["mmd"], usual["mmd"])


def test_the_encoder_looks_at_pictures_of_solids(runs: dict[str, str]) -> None:
    from lightning_gen import checkpoints

    model, _ = checkpoints.load_model(checkpoints.find(runs["voxel-vae-gan"]))
    assert isinstance(model, VoxelVAEGAN)
    solids = (torch.rand(2, 8, 8, 8) < 0.3).to(torch.uint8) * 255
    seen = images.from_uint8(volumes.render(solids, 8))
    with torch.no_grad():
        assert model.encode(images.from_uint8(solids)).allclose(model.of_pictures(seen))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "GAN", "a.png", "--out", "x.obj"], "holds a voxel-gan, which sees no pictures"),
        (["build", "VAE", "nowhere.png", "--out", "x.obj"], "there is no picture nowhere.png"),
        (["build", "VAE", "nowhere.png"], "where to?"),
        (["render", "nowhere.npy", "--out", "x.png"], "there is no file nowhere.npy"),
        (["score", "nowhere"], "nowhere"),
        (["mesh", "GAN", "--out", "/proc/meshes"], "cannot write"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(runs: dict[str, str], arguments: list[str], said: str) -> None:
    names = {"GAN": runs["voxel-gan"], "VAE": runs["voxel-vae-gan"]}
    done = run(*[names.get(word, word) for word in arguments])
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert len(done.output.strip().splitlines()) <= 2
