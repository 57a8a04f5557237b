"""Runs of models that translate: the data they take, what their grids show, how they are scored, and their resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from lightning_gen import checkpoints, images, registry, settings
from lightning_gen.cli import main
from lightning_gen.data.made_pairs import Denoise
from lightning_gen.metrics.extractors import Features, Tiny
from lightning_gen.metrics.features import FeatureSet
from lightning_gen.metrics.reference import Reference
from lightning_gen.metrics.restored import PSNR, SSIM

QUIET = ["--metrics.every_kimg", "0", "--watch.every_kimg", "0", "--logger", "none"]
PIX2PIX = ["--model", "pix2pix", "--preset", "quick", "--model.width", "4", "--data.batch_size", "4"]
CYCLEGAN = ["--model", "cyclegan", "--preset", "quick", "--model.width", "4", "--model.blocks", "1",
            "--model.history", "5", "--data.batch_size", "2"]  # fmt: skip


def lgen(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="lgen")


def succeed(*arguments: object) -> str:
    done = lgen(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def mistake(*arguments: object) -> str:
    done = lgen(*arguments)
    assert done.exit_code == 2, done.output
    return done.stderr.partition("Error: ")[2].strip()


@pytest.mark.parametrize(
    ("model", "data"), [("pix2pix", "paired"), ("cyclegan", "unpaired"), ("srgan", "super-resolution")]
)
def test_a_model_takes_its_own_kind_of_data_where_nobody_names_any(model: str, data: str) -> None:
    assert settings.resolve(model=model).data == data


def test_data_of_another_kind_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    said = mistake("fit", *PIX2PIX, "--data", "shapes", "--out", tmp_path / "run")
    assert said == (
        "pix2pix learns from source and target, and the data shapes has image: "
        "--data colorize, denoise, edges, inpaint, paired"
    )
    assert "srgan learns from low and high" in mistake("fit", "--model", "srgan", "--data", "paired")
    assert "dcgan learns from image, and the data unpaired" in mistake("fit", "--model", "dcgan", "--data", "unpaired")
    assert not list(tmp_path.iterdir())


def test_channels_and_factor_follow_the_data(tmp_path: Path) -> None:
    said = mistake("fit", "--model", "srgan", "--model.factor", "2", "--out", tmp_path / "run")
    assert said.startswith("--model.factor 2 does not match the data super-resolution, which has 4")
    succeed("fit", *PIX2PIX, "--data", "colorize", "--kimg", "0.008", *QUIET, "--out", tmp_path / "run")
    model, _ = checkpoints.load_model(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert model.input_shape == (1, 32, 32)


def test_a_grid_shows_source_output_and_target(tmp_path: Path) -> None:
    run = tmp_path / "run"
    succeed("fit", *PIX2PIX, "--data", "edges", "--kimg", "0.008", *QUIET, "--samples.count", "4", "--out", run)
    with Image.open(sorted((run / "samples").glob("*.png"))[0]) as image:
        sheet = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    factor = sheet.shape[-1] // (3 * 34 - 2)
    small = sheet[:, ::factor, ::factor]
    batch = registry.load("edges", "data")().examples(4)
    for row in range(4):
        of_row = small[:, 34 * row : 34 * row + 32]
        assert torch.equal(of_row[:, :, :32], batch["source"][row].expand(3, -1, -1))
        assert torch.equal(of_row[:, :, 68:100], batch["target"][row])


def test_views_beside_each_other_get_one_size_and_one_number_of_channels() -> None:
    small, large = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.full((2, 3, 8, 8), 7, dtype=torch.uint8)
    sheet = images.beside([small, large])
    assert sheet.shape == (3, 18, 18)
    assert sheet[:, :8, :8].unique().tolist() == [0]
    assert sheet[:, :8, 10:].unique().tolist() == [7]


def test_a_run_is_scored_on_pairs_that_it_has_not_seen(tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "in"
    for split, n in (("train", 9), ("test", 5)):
        for i in range(n):
            level = np.random.default_rng([i, n]).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            (folder / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(level).save(folder / split / f"{i}.png")
    succeed("fit", *PIX2PIX, "--data", "denoise", "--data.root", folder, "--kimg", "0.016", *QUIET, "--out", run)
    found = json.loads(succeed("evaluate", run, "--split", "test", "--metrics", "psnr,ssim", "--json"))
    assert found["passport"]["n_fake"] == 5, "each picture once"
    source = Denoise(str(folder), split="test")
    for i in range(5):
        images.save_png(source.read(np.array([i]))["source"][0], tmp_path / "noisy" / f"{i}.png")
    succeed("translate", run, "--input", tmp_path / "noisy", "--out", tmp_path / "out")
    files = json.loads(
        succeed("evaluate", tmp_path / "out", "--reference", folder / "test", "--metrics", "psnr,ssim", "--json")
    )
    for name in ("psnr", "ssim"):
        assert found["scores"][name] == pytest.approx(files["scores"][name], rel=1e-3)
    assert "lgen translate" in mistake("evaluate", run, "--metrics", "lpips")


def test_psnr_compares_each_translation_with_its_own_target() -> None:
    source = Denoise(deviation=10)
    reference = Reference(source, Tiny())
    rows = np.arange(300)
    noisy = source.read(rows)["source"]
    kept = FeatureSet(300, {"pixels"})
    kept.add(Features(torch.empty(300, 0), None), noisy)
    psnr = PSNR(reference).compute(kept)["psnr"]
    assert 10 * np.log10(255**2 / 10**2) - 0.1 < psnr < 10 * np.log10(255**2 / 10**2) + 1.5, "clipped noise is less"
    assert 0 < SSIM(reference).compute(kept)["ssim"] < 1
    assert PSNR.unfit(registry.load("unpaired", "data")(), Tiny()) == "the data has no pairs"


def weights(run: Path) -> dict[str, Any]:
    return checkpoints.read(run / "checkpoints" / "last.ckpt")["state_dict"]


def test_a_resumed_cyclegan_has_every_bit_of_one_that_was_not_interrupted(tmp_path: Path) -> None:
    half, full = tmp_path / "half", tmp_path / "full"
    succeed("fit", *CYCLEGAN, "--kimg", "0.012", *QUIET, "--update.lr_decay", "0", "--out", half)
    succeed("fit", *CYCLEGAN, "--kimg", "0.024", *QUIET, "--update.lr_decay", "0", "--out", full)
    succeed("fit", "--resume", half, "--kimg", "0.024")
    ours, theirs = weights(half), weights(full)
    assert ours["history_a"].flatten(1).abs().sum(1).all()
    for key, value in theirs.items():
        same = torch.equal(value, ours[key]) if isinstance(value, torch.Tensor) else value == ours[key]
        assert same, key
