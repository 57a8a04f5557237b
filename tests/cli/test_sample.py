"""`lgen sample`: what cannot be drawn or written is said before anything is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from untrained import checkpoint

from lightning_gen.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "images", "--grid", "folder"], "--grid folder is a folder: name a file"),
        (["--grid", "grid.png", "--out", "file"], "--out file is no folder"),
        (["--grid", ""], "is a folder: name a file"),
        (["--grid", "grid.png", "--seed", str(2**64)], "'--seed'"),  # would be the images of seed 0
        (["--grid", "grid.png", "--start", str(2**64)], "'--start'"),
        (["--grid", "grid.png", "--start", str(2**64 - 1)], "a stream has 2^64 images"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checkpoint("dcgan", {"image_shape": (3, 32, 32), "latent_dim": 4, "width": 2}, tmp_path / "runs")
    here = tmp_path / "here"
    (here / "folder").mkdir(parents=True)
    (here / "file").touch()
    monkeypatch.chdir(here)
    done = CliRunner().invoke(main, ["sample", run, "--n", "2", *arguments], prog_name="lgen")
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert said in done.stderr
    assert len(done.output.strip().splitlines()) == 1
    assert sorted(path.name for path in here.rglob("*")) == ["file", "folder"]


def test_images_of_an_earlier_command_in_the_same_folder_are_told_of(tmp_path: Path) -> None:
    run = checkpoint("dcgan", {"image_shape": (3, 32, 32), "latent_dim": 4, "width": 2}, tmp_path / "runs")
    folder, latents = str(tmp_path / "images"), str(tmp_path / "latents.npz")
    np.savez(latents, latents=np.zeros((1, 4), np.float32))
    commands = [["sample", run, "--n", "3"], ["sample", run, "--n", "2"], ["decode", run, latents]]
    said = [CliRunner().invoke(main, [*command, "--out", folder]).output for command in commands]
    assert said == [
        f"3 images in {folder}\n",
        f"2 images in {folder} (other files there: 1)\n",
        f"1 image in {folder} (other files there: 2)\n",
    ]
