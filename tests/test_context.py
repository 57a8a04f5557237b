"""Models that look at more than the picture that they start from: what data, kit and commands do about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from lightning_gen import registry
from lightning_gen.cli import main
from lightning_gen.perceptual import PerceptualLoss
from lightning_gen.testing import check_data, check_model

SOURCE = '''
import numpy as np
import torch
from torch import nn

from lightning_gen.data.shapes import Shapes
from lightning_gen.module import GenerativeModule


class Neighbours(Shapes):
    """Shapes, each to be made of the one before it, beside the two after it.

    Args:
        resolution: Side.
        size: Number of images.
    """

    views = ("source", "target")
    context = ("after",)

    def __init__(self, resolution: int = 8, size: int = 40):
        super().__init__(resolution, size=size)

    def read(self, indices):
        target, source = super().read(indices)["image"], super().read((indices - 1) % self.size)["image"]
        after = torch.stack([super(Neighbours, self).read((indices + i) % self.size)["image"] for i in (1, 2)], dim=1)
        return {**super().read(indices), "source": source, "target": target, "image": target, "after": after}


class Mean(GenerativeModule):
    """Adds what it started from and the mean of what comes after.

    Args:
        image_shape: (channels, height, width).
    """

    presets = {"quick": {}}
    views = ("source", "target")
    context = ("after",)

    def __init__(self, image_shape: tuple[int, int, int] = (3, 8, 8)):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.image_shape = self.input_shape = tuple(image_shape)
        self.context_shapes = {"after": (2, *self.image_shape)}
        self.automatic_optimization = True
        self.generator = nn.Linear(2, 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

    def training_step(self, batch, batch_idx):
        drawn = self.generate(None, batch)
        return self.step_output(len(drawn), loss=(drawn - batch["target"]).square().mean())

    def generate(self, latents, condition=None):
        both = torch.stack([condition["source"], condition["after"].mean(1)], dim=-1)
        return self.generator(both).squeeze(-1)
'''
SMALL = ("--data.size", "40", "--data.resolution", "8", "--data.batch_size", "20", "--logger", "none", "--kimg", "0.04",
         "--metrics.every_kimg", "0", "--samples.count", "4")  # fmt: skip


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("near.py").write_text(SOURCE)


def lgen(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="lgen")


def fit(data: str, *more: str) -> Result:
    plugins = ("--plugin", "near.py:Mean", "--plugin", "near.py:Neighbours")
    return lgen("fit", *plugins, "--model", "Mean", "--data", data, *more, "--out", "run")


def test_the_kits_hand_out_the_context_and_ask_for_it() -> None:
    with registry.including(("near.py:Mean", "near.py:Neighbours")):
        check_model("Mean")
        near = registry.load("Neighbours", "data")
        check_data(near)

        class Silent(near):  # type: ignore[valid-type,misc]
            __doc__ = near.__doc__

            def read(self, indices: np.ndarray) -> dict[str, object]:
                return {key: value for key, value in super().read(indices).items() if key != "after"}

        with pytest.raises(AssertionError, match="context names 'after', but read gives none"):
            check_data(Silent)


def test_a_run_shows_samples_and_is_scored_with_the_context_of_the_data() -> None:
    done = fit("Neighbours", *SMALL)
    assert done.exit_code == 0, done.output
    assert list(Path("run/samples").glob("*.png"))
    done = lgen("evaluate", "run", "--n", "20", "--metrics", "fid")
    assert done.exit_code == 0, done.output


def test_data_without_the_context_are_refused_and_the_right_ones_named() -> None:
    done = fit("paired", *SMALL[4:])
    assert done.exit_code == 2
    assert "Mean looks at after, which the data paired does not have: --data Neighbours" in done.stderr
    assert not Path("run").exists()


def test_what_has_no_context_to_give_is_refused() -> None:
    assert fit("Neighbours", *SMALL).exit_code == 0
    Image.new("RGB", (8, 8)).save("picture.png")
    done = lgen("translate", "run", "--input", "picture.png", "--out", "out")
    assert done.exit_code == 2
    assert "which needs after beside a picture to translate" in done.stderr
    done = lgen("export", "run", "--format", "torchscript", "--out", "graph.pt")
    assert done.exit_code == 2
    assert "looks at after too" in done.stderr


def test_the_distance_of_maps_is_the_sum_over_all_depths() -> None:
    loss = PerceptualLoss("tiny")
    torch.manual_seed(0)
    a, b = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    x, y, total = a * 127.5 / 64, b * 127.5 / 64, 0.0
    for stage in loss._network:
        x, y = stage(x), stage(y)
        total += (x - y).abs().mean().item()
    assert loss.distance_of_maps(a, b).item() == pytest.approx(total, rel=1e-5)
    assert loss.distance_of_maps(a, a).item() == 0
