"""A shop of plugins, good and bad: each a distribution that hatchling built and pip installed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling import build

MODEL = """
import torch
from torch import nn

from lightning_gen.losses import least_squares_d, least_squares_g
from lightning_gen.module import GenerativeModule


class {name}(GenerativeModule):
    \"\"\"A model of a stranger.

    Args:
        image_shape: (channels, height, width).
        lr: Learning rate.
    \"\"\"

    presets = {{"quick": {{}}}}
    latent_dim = 4

    def configure_optimizers(self):
        return [torch.optim.SGD(network.parameters(), self.hparams.lr) for network in self.children()]

    def training_step(self, batch, batch_idx):
        real, (opt_d, opt_g) = batch["image"], self.optimizers()
        with self.update(opt_d) as step:
            loss_d = least_squares_d(self.discriminator(real), self.discriminator(self.fake(len(real))))
            step.backward(loss_d)
        with self.update(opt_g) as step:
            loss_g = least_squares_g(self.discriminator(self.fake(len(real))))
            step.backward(loss_g)
        return self.step_output(len(real), loss_d=loss_d, loss_g=loss_g)

    def fake(self, n):
        return self.generate(self.randn(n, self.latent_dim))

    def generate(self, latents, condition=None):
        return self.generator(latents)

    def __init__(self, image_shape: tuple[int, int, int] = (1, 8, 8), lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.image_shape = tuple(image_shape)
        pixels = image_shape[0] * image_shape[1] * image_shape[2]
        self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 1))
        self.generator = nn.Sequential(nn.Linear(4, pixels), nn.Tanh(), nn.Unflatten(1, image_shape))
"""

FINE = (
    MODEL.format(name="Fine")
    + """

import numpy as np
from pytorch_lightning import Callback

from lightning_gen.data.source import Source
from lightning_gen.metrics.extractors import Extractor, Features
from lightning_gen.metrics.scores import Score


class Stripes(Source):
    \"\"\"Grey stripes.

    Args:
        size: Number of images.
    \"\"\"

    split = "train"
    class_names = ()

    def __init__(self, size: int = 40):
        self.image_shape = (1, 8, 8)
        self.size = size

    def __len__(self):
        return self.size

    def read(self, indices):
        rows = torch.from_numpy(np.asarray(indices) % 256).to(torch.uint8)
        return {"image": rows[:, None, None, None].expand(-1, *self.image_shape).clone()}

    def digest(self):
        return f"stripes {self.size}"


class Mean(Extractor):
    \"\"\"Mean and deviation of the pixels.\"\"\"

    name = "mean"
    feature_dim, logit_dim, resizes = 2, None, ("none",)
    weights_digest = "none"

    def __init__(self, weights: str | None = None, resize: str | None = None):
        super().__init__(resize)
        self.eval()

    def extract(self, images):
        rows = images.float().flatten(1)
        return Features(torch.stack([rows.mean(1), rows.std(1)], 1), None)


class Brightness(Score):
    \"\"\"Mean of the pixels.\"\"\"

    needs = frozenset({"pixels"})

    def compute(self, generated):
        return {"brightness": float(generated.pixels.float().mean())}


class Quiet(Callback):
    \"\"\"Does nothing.

    Args:
        loudness: How much of it.
    \"\"\"

    def __init__(self, loudness: float = 0.0):
        self.loudness = loudness
"""
)

SHOP = {
    "lgen-fine": (FINE, {"models": "fine=Fine", "data": "stripes=Stripes", "extractors": "mean=Mean",
                         "metrics": "brightness=Brightness", "callbacks": "quiet=Quiet"}),
    "lgen-hangs": ("import time\n\ntime.sleep(3600)\n", {"models": "hangs=Hangs"}),
    "lgen-fails": ("raise RuntimeError('no licence found')\n", {"models": "fails=Fails"}),
    "lgen-leaves": ("import sys\n\nsys.exit(0)\n", {"models": "leaves=Leaves"}),
    "lgen-dies": ("import os\n\nos.abort()\n", {"models": "dies=Dies"}),
    "lgen-raises": (MODEL.format(name="Raises") + "        raise ZeroDivisionError('no reason')\n",
                    {"models": "raises=Raises"}),
    "lgen-misshapen": (MODEL.format(name="Misshapen").replace("self.generate(", "self.generator(")
                       .replace("self.generator(latents)", "self.generator(latents)[..., :4]"),
                       {"models": "misshapen=Misshapen"}),
    "lgen-stumbles": (MODEL.format(name="Stumbles").replace("real, (", "raise KeyError('nothing there')  # ("),
                      {"models": "stumbles=Stumbles"}),
    "lgen-usurper": (MODEL.format(name="Usurper"), {"models": "progan=Usurper"}),
    "lgen-lacking": ("import a_library_nobody_has\n", {"models": "lacking=Lacking"}),
    "lgen-future": ("raise RuntimeError('imported')\n", {"models": "future=Future", "api": "2=lgen_future"}),
    "lgen-undated": (MODEL.format(name="Undated"), {"models": "undated=Undated", "api": ""}),
    "lgen-noisy": ("import torch\n\nprint('[{')\ntorch.manual_seed(0)\ntorch.set_default_dtype(torch.float64)\n"
                   + MODEL.format(name="Noisy"), {"models": "noisy=Noisy"}),
    "lgen-oddname": (MODEL.format(name="Odd"), {"models": '"../odd"=Odd'}),
    "lgen-twin-one": (MODEL.format(name="One"), {"models": "twin=One"}),
    "lgen-twin-two": (MODEL.format(name="Two"), {"models": "twin=Two"}),
}  # fmt: skip
"""Source of the one module, and entry points, of each distribution."""

NEEDS = {"lgen-lacking": ["a-library-nobody-has>=2"]}


def wheel(name: str, source: str, points: dict[str, str], folder: Path, version: str = "1.0") -> Path:
    """Build a distribution of one module, as its author would."""
    module = name.replace("-", "_")
    home = folder / f"{name}-{version}"
    home.mkdir(parents=True)
    (home / f"{module}.py").write_text(source)
    lines = [
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n[project]',
        f'name = "{name}"\nversion = "{version}"\ndependencies = {NEEDS.get(name, [])}',
        f'[tool.hatch.build.targets.wheel]\nonly-include = ["{module}.py"]',
    ]
    for group, point in {"api": f"1={module}", **points}.items():
        key, _, attribute = point.partition("=")
        if key:
            target = attribute if group == "api" else f"{module}:{attribute}"
            lines.append(f'[project.entry-points."lightning_gen.{group}"]\n{key} = "{target}"')
    (home / "pyproject.toml").write_text("\n".join(lines))
    before = Path.cwd()
    os.chdir(home)  # where a build backend looks for the project
    try:
        return folder / build.build_wheel(str(folder))
    finally:
        os.chdir(before)


def pip_install(wheels: list[Path], target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*command, *map(str, wheels)], check=True)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where all of them are installed."""
    wheels = tmp_path_factory.mktemp("wheels")
    target = tmp_path_factory.mktemp("site")
    pip_install([wheel(name, source, points, wheels) for name, (source, points) in SHOP.items()], target)
    return target


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For this process and for those that it starts."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(":"))


@pytest.fixture
def shop(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All of them are installed."""
    put_on_path(site, monkeypatch)
    before = set(sys.modules)
    yield site
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(site)):
            del sys.modules[module]
    importlib.invalidate_caches()
