"""Volumes from the data to pictures and files: what the host does with samples that are no images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from lightning_gen import images, registry, volumes
from lightning_gen.cli import main
from lightning_gen.testing import check_data, check_model

SOURCE = '''
import numpy as np
import torch
from torch import nn

from lightning_gen.data.source import Source
from lightning_gen.metrics.scores import Score
from lightning_gen.module import GenerativeModule


class Towers(Source):
    """Boxes, each of another height.

    Args:
        side: Of the volume.
        split: train or test.
    """

    kind = "volume"

    def __init__(self, side: int = 8, split: str = "train"):
        self.image_shape, self.class_names, self.split = (side, side, side), [], split

    def __len__(self):
        return 40

    def read(self, indices):
        volumes = torch.zeros(len(indices), *self.image_shape, dtype=torch.uint8)
        for volume, row in zip(volumes, indices.tolist()):
            volume[2:6, 2:6, : 1 + row % 7] = 255
        return {"image": volumes}

    def digest(self):
        return f"towers {self.image_shape}"


class Height(Score):
    """Mean share of voxels that are solid."""

    needs = frozenset({"pixels"})

    def compute(self, generated):
        return {"height": float((generated.pixels >= 128).float().mean())}


class Solid(GenerativeModule):
    """A volume by one transposed convolution.

    Args:
        image_shape: The sides.
    """

    presets = {"quick": {}}

    def __init__(self, image_shape: tuple[int, int, int] = (8, 8, 8)):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.image_shape, self.latent_dim, self.automatic_optimization = tuple(image_shape), 3, True
        self.generator = nn.Sequential(nn.Unflatten(1, (3, 1, 1, 1)), nn.ConvTranspose3d(3, 1, image_shape[0]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

    def training_step(self, batch, batch_idx):
        drawn = self.generate(self.randn(len(batch["image"]), 3))
        return self.step_output(len(drawn), loss=(drawn - batch["image"]).square().mean())

    def generate(self, latents, condition=None):
        return torch.tanh(self.generator(latents))[:, 0]
'''


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("towers.py").write_text(SOURCE)


def lgen(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="lgen")


def fit(*more: str) -> Result:
    plugins = [word for name in ("Solid", "Towers", "Height") for word in ("--plugin", f"towers.py:{name}")]
    small = ["--data.batch_size", "20", "--logger", "none", "--kimg", "0.04", "--samples.count", "4"]
    return lgen("fit", *plugins, "--model", "Solid", "--data", "Towers", *small, *more, "--out", "run")


def ball(side: int) -> torch.Tensor:
    line = (torch.arange(side) * 2 + 1) / side - 1
    x, y, z = torch.meshgrid(line, line, line, indexing="ij")
    return ((x**2 + y**2 + z**2) <= 0.6**2).to(torch.uint8) * 255


def test_a_ball_is_seen_as_a_disc_that_is_lit_from_above() -> None:
    picture = volumes.render(ball(32)[None], 64)[0].float()
    seen = (picture[0] < 255).float()
    radius = (seen.sum() / torch.pi).sqrt() / 32 * volumes.ROOM
    assert radius.item() == pytest.approx(0.6, abs=0.03)
    rows = (seen * torch.arange(64)[:, None]).sum() / seen.sum()
    assert rows.item() == pytest.approx(31.5, abs=0.5), "in the middle"
    light = torch.where(seen > 0, picture[2], torch.nan)
    assert light[:32].nanmean() > light[32:].nanmean() + 30


def test_what_stands_in_front_hides_what_is_behind_and_high_is_up() -> None:
    solid = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    solid[0, 12:20, 2:6, 2:30] = 255
    alone = volumes.render(solid)
    solid[0, 14:18, 26:30, 14:18] = 255  # behind it, and smaller
    both = volumes.render(solid)
    assert (both != alone).float().mean() < 0.02
    low, high = (torch.zeros(1, 16, 16, 16, dtype=torch.uint8) for _ in range(2))
    low[:, 6:10, 6:10, :4], high[:, 6:10, 6:10, 12:] = 255, 255
    rows = [(volumes.render(solid)[0, 0] < 255).nonzero()[:, 0].float().mean() for solid in (low, high)]
    assert rows[1] < rows[0] - 20


def test_nothing_is_white_and_no_volumes_are_no_pictures() -> None:
    assert volumes.render(torch.zeros(1, 8, 8, 8, dtype=torch.uint8)).min() == 255
    assert volumes.render(torch.zeros(0, 8, 8, 8, dtype=torch.uint8)).shape == (0, 3, 64, 64)


def test_the_kits_know_volumes() -> None:
    with registry.including(("towers.py:Solid", "towers.py:Towers")):
        check_model("Solid")
        check_data("Towers")


def test_a_run_of_volumes_shows_renders_and_is_scored_by_what_takes_voxels() -> None:
    done = fit("--metrics.names", "[fid,Height]", "--metrics.samples", "20", "--metrics.every_kimg", "0.04")
    assert done.exit_code == 0, done.output
    with Image.open(sorted(Path("run/samples").glob("*.png"))[-1]) as grid:
        assert np.asarray(grid).shape[2] == 3
    done = lgen("evaluate", "run", "--n", "20", "--metrics", "fid,Height", "--plugin", "towers.py:Height")
    assert done.exit_code == 0, done.output
    assert "height" in done.output
    assert "an extractor sees pictures, no volume" in done.output


def test_samples_are_written_as_arrays_and_shown_as_pictures() -> None:
    assert fit("--metrics.every_kimg", "0").exit_code == 0
    assert lgen("sample", "run", "--n", "3", "--out", "solids", "--grid", "solids.png").exit_code == 0
    solid = np.load("solids/000002.npy")
    assert solid.shape == (8, 8, 8)
    assert set(np.unique(solid)) <= {0, 1}
    with Image.open("solids.png") as grid:
        assert min(grid.size) >= 128
    assert lgen("interpolate", "run", "--between", "0,1", "--steps", "3", "--png", "walk.png").exit_code == 0
    assert lgen("traverse", "run", "--steps", "3", "--png", "rows.png").exit_code == 0
    images.save_png(torch.zeros(3, 8, 8, dtype=torch.uint8), Path("a.png"))
    done = lgen("traverse", "run", "--image", "a.png", "--png", "no.png")
    assert done.exit_code == 2
    assert "the model makes volumes, not pictures" in done.output
