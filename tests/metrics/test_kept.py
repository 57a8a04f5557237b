"""`kept`: whether a translation shows what it was made from, on translations whose truth is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_gen import registry
from lightning_gen.metrics.extractors import Tiny
from lightning_gen.metrics.kept import Kept


def kept(name: str, pixels: torch.Tensor) -> dict[str, float]:
    score = object.__new__(Kept)
    score.reference = SimpleNamespace(source=registry.make(name, "data"))
    return score.compute(SimpleNamespace(pixels=pixels, count=len(pixels)))


@pytest.mark.parametrize("name", ["paired", "unpaired", "colorize", "inpaint", "edges", "denoise", "super-resolution"])
def test_the_right_answer_keeps_everything(name: str) -> None:
    source = registry.make(name, "data")
    assert Kept.unfit(source, Tiny()) == ""
    right = registry.make("shapes", "data").read(np.arange(96))["image"]
    found = kept(name, right)
    assert found["shape_kept"] == pytest.approx(1, abs=0.02)
    assert found["colour_kept"] == 1
    assert found["place_kept"] == 1


def test_other_shapes_keep_shape_and_colour_by_chance_alone() -> None:
    other = registry.make("shapes", "data").read(np.random.default_rng(0).permutation(2400)[:960])["image"]
    found = kept("unpaired", other)
    assert found["shape_kept"] == pytest.approx(1 / 6, abs=0.05)
    assert found["colour_kept"] == pytest.approx(1 / 8, abs=0.05)


def test_a_moved_shape_is_not_in_its_place() -> None:
    right = registry.make("shapes", "data").read(np.arange(96))["image"]
    assert kept("paired", right.roll(1, dims=3))["place_kept"] == 1
    assert kept("paired", right.roll(3, dims=3))["place_kept"] < 0.05


@pytest.mark.parametrize(
    ("name", "settings"), [("shapes", {}), ("paired", {"direction": "ba"}), ("colorize", {"root": "files"})]
)
def test_where_nobody_knows_the_truth_it_is_left_out(
    name: str, settings: dict[str, str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if settings.get("root"):
        from PIL import Image

        (tmp_path / "files").mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / "files" / "0.png")
    assert "only translations" in Kept.unfit(registry.make(name, "data", **settings), Tiny())
