"""Captions from the data to the model, and from the command line to `generate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from lightning_gen import registry
from lightning_gen.cli import main
from lightning_gen.plugin.checks import check_data
from lightning_gen.testing import check_model

SOURCE = '''
import torch
from torch import nn

from lightning_gen.data.shapes import Shapes
from lightning_gen.module import GenerativeModule


class Told(Shapes):
    """Shapes and what is said of them.

    Args:
        resolution: Side.
        size: Number of images.
    """

    captioned = True

    def __init__(self, resolution: int = 8, size: int = 40):
        super().__init__(resolution, size=size)

    def read(self, indices):
        return {**super().read(indices), "caption": self.captions(indices)}

    def model_settings(self):
        return {"vocabulary": "a b"}


class Length(GenerativeModule):
    """As bright as its caption is long.

    Args:
        image_shape: (channels, height, width).
        vocabulary: From the data.
    """

    presets = {"quick": {}}
    captioned = True

    def __init__(self, image_shape: tuple[int, int, int] = (3, 8, 8), vocabulary: str = ""):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.image_shape, self.automatic_optimization = tuple(image_shape), True
        self.weight = nn.Linear(1, 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

    def training_step(self, batch, batch_idx):
        assert all(isinstance(caption, str) for caption in batch["caption"])
        length = torch.tensor([[len(caption) / 100] for caption in batch["caption"]])
        return self.step_output(len(length), loss=self.weight(length).square().mean())

    def latents(self, n, *, seed, start):
        return torch.stack([torch.full((n,), seed), torch.arange(start, start + n)], dim=1)

    def conditions(self, n, *, seed, start):
        return {"caption": [""] * n}

    def generate(self, latents, condition=None):
        bright = torch.tensor([len(caption) / 100 for caption in condition["caption"]])
        noise = (latents[:, 0] * 7 + latents[:, 1]) % 5 / 1000
        return (bright + noise).view(-1, 1, 1, 1).expand(-1, *self.image_shape).clone()
'''
SMALL = ("--data.size", "40", "--data.resolution", "8", "--data.batch_size", "20", "--logger", "none", "--kimg", "0.04",
         "--metrics.every_kimg", "0", "--samples.every_kimg", "0")  # fmt: skip


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("told.py").write_text(SOURCE)


def lgen(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="lgen")


def fit(data: str) -> Result:
    plugins = ("--plugin", "told.py:Length", "--plugin", "told.py:Told")
    return lgen("fit", *plugins, "--model", "Length", "--data", data, *SMALL, "--out", "run")


def test_a_caption_on_the_command_line_is_what_images_are_drawn_for() -> None:
    done = fit("Told")
    assert done.exit_code == 0, done.output
    for caption in ("x" * 20, "x" * 60):
        done = lgen("sample", "run", "--n", "3", "--caption", caption, "--out", f"of{len(caption)}")
        assert done.exit_code == 0, done.output
        pixels = np.asarray(Image.open(f"of{len(caption)}/000002.png")).astype(float) / 127.5 - 1
        assert pixels == pytest.approx(len(caption) / 100, abs=0.02)


def test_a_model_is_told_what_the_data_knows() -> None:
    assert fit("Told").exit_code == 0
    assert yaml.safe_load(Path("run/run.yaml").read_text())["model"]["vocabulary"] == "a b"


def test_data_without_captions_are_refused_and_the_right_ones_named() -> None:
    done = fit("shapes")
    assert done.exit_code == 2
    assert "Length learns from captions, and the data shapes has none: --data " in done.stderr
    assert "Told" in done.stderr
    assert not Path("run").exists()


def test_a_caption_means_nothing_to_a_model_of_labels() -> None:
    assert lgen("fit", "--model", "gan", "--model.width", "2", *SMALL, "--out", "gan").exit_code == 0
    done = lgen("sample", "gan", "--caption", "a cat", "--out", "cats")
    assert done.exit_code == 2
    assert "gan reads no captions: --caption means nothing to it" in done.stderr
    assert not Path("cats").exists()


def test_the_kits_hand_out_captions_and_ask_for_them() -> None:
    with registry.including(("told.py:Length", "told.py:Told")):
        check_model("Length")
        told = registry.load("Told", "data")
        check_data(told)

        class Silent(told):  # type: ignore[valid-type,misc]
            __doc__ = told.__doc__

            def read(self, indices: np.ndarray) -> dict[str, object]:
                return {key: value for key, value in super().read(indices).items() if key != "caption"}

        with pytest.raises(AssertionError, match="read gives no list of captions"):
            check_data(Silent)
