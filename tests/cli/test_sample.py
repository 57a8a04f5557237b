"""`lgen sample`: what cannot be drawn or written is said before anything is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
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


def test_a_class_is_asked_for_by_its_name_or_its_number(tmp_path: Path) -> None:
    settings = {"image_shape": (3, 8, 8), "latent_dim": 4, "num_classes": 3, "width": 8, "discriminator_width": 4}
    run = checkpoint("cgan", settings, tmp_path, class_names=["2", "red star", "10"])

    def drawn(label: str) -> bytes:
        out = tmp_path / label
        done = CliRunner().invoke(main, ["sample", run, "--n", "1", "--label", label, "--out", str(out)])
        assert done.exit_code == 0, done.output + repr(done.exception)
        return (out / "000000.png").read_bytes()

    assert drawn("red star") == drawn("1")
    assert drawn("2") == drawn("0"), "a folder that is called 2 is class 0"
    assert drawn("2") != drawn("10")
    for asked, hint in (("red sta", "; did you mean 'red star'?"), ("3", ""), ("-1", "")):
        done = CliRunner().invoke(main, ["sample", run, "--n", "1", "--label", asked, "--out", str(tmp_path / "x")])
        assert done.exit_code == 2
        assert done.stderr == f"Error: --label {asked}: the model knows classes 0 to 2 (2, red star, 10){hint}\n"


def test_an_option_of_the_model_s_own_is_handed_on_and_checked(tmp_path: Path) -> None:
    settings = {"image_shape": (3, 16, 16), "noise_dim": 4, "categories": 3, "width": 4, "discriminator_width": 4}
    run = checkpoint("infogan", settings, tmp_path)

    def sample(*options: str) -> Result:
        words = ["--n", "2", "--out", str(tmp_path / "-".join(options)), *(f"--option={one}" for one in options)]
        return CliRunner().invoke(main, ["sample", run, *words])

    def drawn(*options: str) -> bytes:
        done = sample(*options)
        assert done.exit_code == 0, done.output + repr(done.exception)
        return (tmp_path / "-".join(options) / "000000.png").read_bytes()

    assert len({drawn(f"category={which}") for which in range(3)}) == 3
    assert drawn("category=1", "place=1") == drawn("place=1.0", "category=1")
    for wrong, said in (
        ("category", "--option category: expected KEY=VALUE"),
        ("categories=1", "--option categories: infogan does not offer it (it has category, place); did you mean"),
        ("category=red", "--option category=red: category must be int"),
        ("category=[", "--option category=[: category must be int"),
        ("category=1.5", "--option category=1.5: category must be int"),
        ("category=7", "category 7: the code has 3 values"),
        ("place=.inf", "--option place=.inf: must be a finite number"),
    ):
        done = sample(wrong)
        assert done.exit_code == 2, done.output + repr(done.exception)
        assert said in done.stderr
