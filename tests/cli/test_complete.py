"""`lgen complete`: the known pixels stay, the others are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from untrained import checkpoint

from lightning_gen import registry
from lightning_gen.cli import main

SMALL = {
    "pixelcnn": {"image_shape": (3, 8, 8), "levels": 4, "width": 6, "layers": 1},
    "pixelcnn++": {"image_shape": (3, 8, 8), "width": 4, "blocks": 1, "mixtures": 2},
    "pixelrnn": {"image_shape": (3, 8, 8), "levels": 4, "hidden": 3, "layers": 1, "head": 6},
}
OTHER = {"vae": {"image_shape": (3, 8, 8), "widths": (4,), "hidden": (4,), "likelihood": "gaussian"}}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "empty.png").touch()
    made = {name: checkpoint(name, settings, folder) for name, settings in {**SMALL, **OTHER}.items()}
    return {**made, "empty": str(folder / "empty.png")}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def lgen(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in arguments])


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_models_tried_here_are_all_that_complete() -> None:
    assert {name for name in registry.names("models") if registry.load(name).completes} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("hidden", "known"),
    [("bottom", np.s_[:6]), ("top", np.s_[2:]), ("right", np.s_[:, :6]), ("left", np.s_[:, 2:])],
)
def test_known_pixels_are_kept_to_the_bit_and_the_others_are_drawn(
    name: str, hidden: str, known: tuple[slice, ...], checkpoints: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    out, sheet = tmp_path / "out", tmp_path / "sheet.png"
    options = ["--hidden", hidden, "--share", 0.25, "--draws", 2, "--out", out, "--png", sheet]
    done = lgen("complete", checkpoints[name], "--input", pictures, *options)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert sorted(path.name for path in out.iterdir()) == [f"{i:06d}-{draw}.png" for i in (0, 1) for draw in (0, 1)]
    height, width, _ = read(sheet).shape
    assert width / height == pytest.approx((4 * 10 - 2) / (2 * 10 - 2))
    for i in (0, 1):
        given, first, second = read(pictures / f"{i}.png"), *(read(out / f"{i:06d}-{draw}.png") for draw in (0, 1))
        assert np.array_equal(given[known], first[known])
        assert np.array_equal(given[known], second[known])
        assert not np.array_equal(first, second)
        assert not np.array_equal(given, first)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{pixelcnn}", "--input", "shapes"], "where to?"),
        (["{pixelcnn}", "--input", "shapes", "--share", "1", "--png", "x.png"], "hides all"),
        (["{pixelcnn}", "--input", "shapes", "--share", "nan", "--png", "x.png"], "--share nan: must be a finite"),
        (["{vae}", "--input", "shapes", "--png", "x.png"], "vae completes no images"),
        (["{pixelcnn}", "--input", "shapes", "--label", "1", "--png", "x.png"], "not conditional"),
        (["none", "--input", "shapes", "--png", "x.png"], "none"),
        (["{pixelcnn}", "--input", "{empty}", "--png", "x.png"], "empty.png cannot be read (not an image"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], said: str, checkpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = lgen("complete", *(word.format(**checkpoints) for word in arguments))
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert said in done.output
    assert len(done.output.strip().splitlines()) <= 2
    assert not list(tmp_path.iterdir())
