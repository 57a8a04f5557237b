"""Bytes and [-1, 1], and pictures on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen import images


def test_bytes_survive_the_way_to_floats_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    floats = images.from_uint8(levels)
    assert floats.min() == -1
    assert floats.max() == 1
    assert torch.equal(images.to_uint8(floats), levels)


def test_values_outside_the_range_are_clamped_and_between_levels_rounded() -> None:
    assert images.to_uint8(torch.tensor([-3.0, 1.5, 0.001, -0.001])).tolist() == [0, 255, 128, 127]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(images.NotFinite):
        images.to_uint8(torch.tensor([0.0, bad]))


def test_a_grid_places_images_row_by_row() -> None:
    tiles = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 4, 4)
    sheet = images.grid(tiles, columns=3, gap=1)
    assert sheet.shape == (3, 9, 14)
    assert sheet[0, ::5, ::5].tolist() == [[0, 1, 2], [3, 4, 255]]
    assert sheet[0, 4].unique().tolist() == [255]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_is_read_back_as_it_was_written_and_nothing_else_is_left(tmp_path: Path, channels: int) -> None:
    picture = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    images.save_png(picture, tmp_path / "deep" / "x.png")
    found = np.asarray(Image.open(tmp_path / "deep" / "x.png")).reshape(5, 7, channels)
    assert np.array_equal(found, picture.permute(1, 2, 0).numpy())
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.png"]
