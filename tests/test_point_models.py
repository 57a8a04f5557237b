"""Models that have a preset for points of the plane."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner

from lightning_gen import checkpoints, records, registry
from lightning_gen.augment import AugmentOptions
from lightning_gen.cli import main
from lightning_gen.errors import UserError
from lightning_gen.models.gan import GAN
from lightning_gen.models.r3gan import R3GAN

NAMED = [name for name in registry.names("models") if "points" in registry.load(name).presets]


def test_the_models_that_are_compared_on_points_have_a_preset_for_them() -> None:
    assert {"gan", "wgan-gp", "r3gan"} <= set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_a_model_with_a_preset_for_points_trains_draws_and_counts_modes(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["fit", "--model", name, "--preset", "points", "--data", "points", "--kimg", "8", "--logger", "none"]
    done = CliRunner().invoke(main, [*words, "--metrics.samples", "200", "--out", str(run)])
    assert done.exit_code == 0, done.output + repr(done.exception)
    last = records.read(run / "metrics.jsonl")[-1]
    assert 0 <= last["modes_covered"] <= 25
    assert 0 <= last["high_quality"] <= 1
    model, _ = checkpoints.load_model(run / "checkpoints" / "last.ckpt")
    drawn = model.sample(70)
    assert drawn.shape == (70, 2, 1, 1)
    assert drawn.abs().max() <= 1
    assert len(drawn.flatten(1).unique(dim=0)) == 70


@pytest.mark.parametrize("kind", ["diffaugment", "ada"])
def test_points_are_not_augmented_as_images_are(kind: Literal["diffaugment", "ada"]) -> None:
    model = GAN(**GAN.presets["points"])
    AugmentOptions().check(model)
    with pytest.raises(UserError, match="points are no images"):
        AugmentOptions(kind).check(model)


def test_r3gan_refuses_points_with_labels() -> None:
    with pytest.raises(UserError, match="points without labels"):
        R3GAN(image_shape=(2, 1, 1), num_classes=25, conditional=True)
