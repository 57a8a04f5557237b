"""The one place that converts between [-1, 1] and bytes, checks ranges and tiles grids."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_gen import files, volumes
from lightning_gen.errors import UserError


class NotFinite(UserError):  # noqa: N818 - says what the images are
    """Images that hold NaN or infinity: they have no bytes, and a score of them would be a lie."""


def from_uint8(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bytes 0..255 to floats in [-1, 1], any shape."""
    return images.to(dtype).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to bytes, clamped, then rounded to the nearest level.

    Truncation would shift a quarter of all levels.

    Raises:
        NotFinite: some value is NaN or infinite.
    """
    if not bool(torch.isfinite(images).all()):
        raise NotFinite("the images hold values that are not finite (NaN or infinity): the model has diverged")
    return images.float().clamp(-1, 1).mul(127.5).add_(127.5).round_().to(torch.uint8)


def as_stored(samples: Tensor, kind: str) -> Tensor:
    """What a model drew, as a source of this kind holds it: bytes, or for points the floats that they are.

    Raises:
        NotFinite: some value is NaN or infinite.
    """
    if kind != "points":
        return to_uint8(samples)
    if not bool(torch.isfinite(samples).all()):
        raise NotFinite("the points hold values that are not finite (NaN or infinity): the model has diverged")
    return samples.float()


def shown(stored: Tensor, kind: str) -> Tensor:
    """What is to be looked at of images as a source of this kind holds them, (N, 1 or 3, H, W) uint8: volumes from the
    side, pictures as they are."""
    return volumes.render(stored) if kind == "volume" else stored


def sheet(stored: Tensor, kind: str) -> Tensor:
    """All of them in one picture (C, height, width) uint8: a grid, or points as dots of one plane."""
    return scatter(stored) if kind == "points" else grid(shown(stored, kind))


def scatter(points: Tensor, side: int = 512) -> Tensor:
    """Points (N, 2) or (N, 2, 1, 1) in [-1, 1] as dots of 3x3 pixels, y upwards: a picture (3, side, side) uint8, which
    is darker where points lie upon each other. What lies outside is drawn on the border."""
    x, y = points.flatten(1).float().cpu().clamp(-1, 1).unbind(1)
    column, row = ((v + 1) / 2 * (side - 3) + 1 for v in (x, -y))
    count = torch.zeros(side, side)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            where = ((row.round().long() + down) * side + column.round().long() + right,)
            count.view(-1).index_put_(where, torch.ones(len(points)), accumulate=True)
    return ((0.7**count) * 255).to(torch.uint8).expand(3, side, side)


def grid(images: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """Tile images (N, C, H, W) uint8 row by row into one picture (C, height, width), on a white ground.

    `columns` defaults to the square root of N, rounded up.
    """
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = images.new_full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), 255)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def beside(views: Sequence[Tensor]) -> Tensor:
    """Pictures of equal subjects side by side, one of each view (N, C, H, W) uint8 next to the other, tiled like
    `grid`. Smaller views are enlarged by whole factors, grey ones get three channels where others have them."""
    channels, side = max(view.shape[1] for view in views), max(view.shape[-1] for view in views)
    full = [enlarge(view, side).expand(-1, channels, -1, -1) for view in views]
    rows = torch.stack(full, dim=1).flatten(0, 1)
    return grid(rows, columns=len(views) * max(1, math.isqrt(len(views[0])) // 2))


def contact_sheet(pictures: Sequence[Tensor], columns: int, cell: int = 256) -> Tensor:
    """Pictures (C, H, W) uint8 of any sizes, each shrunk or enlarged to fit a square of `cell` pixels, tiled like
    `grid`."""
    cells = []
    for picture in pictures:
        factor = cell / max(picture.shape[-2:])
        height, width = (max(1, round(side * factor)) for side in picture.shape[-2:])
        array = picture.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
        square = Image.new("RGB", (cell, cell), (255, 255, 255))
        square.paste(Image.fromarray(array).resize((width, height), how), ((cell - width) // 2, (cell - height) // 2))
        cells.append(torch.from_numpy(np.array(square)).permute(2, 0, 1))
    return grid(torch.stack(cells), columns)


def enlarge(picture: Tensor, at_least: int = 512) -> Tensor:
    """Repeat the pixels of a picture (C, H, W) until its shorter side has `at_least` of them, to be looked at."""
    factor = max(1, math.ceil(at_least / min(picture.shape[-2:])))
    return picture.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def save(stored: Tensor, path: Path, kind: str) -> None:
    """Write one image as a source of this kind holds it, whole or not at all: `path`.png, or for a volume `path`.npy,
    uint8 (X, Y, Z) with 1 where it is solid."""
    if kind == "volume":
        content = io.BytesIO()
        np.save(content, (stored >= 128).to(torch.uint8).numpy(), allow_pickle=False)
        files.write(path.with_name(f"{path.name}.npy"), content.getvalue())
    else:
        save_png(stored, path.with_name(f"{path.name}.png"))


def save_png(picture: Tensor, path: Path) -> None:
    """Write a picture (C, H, W) uint8, C 1 or 3, whole or not at all."""
    array = picture.cpu().permute(1, 2, 0).contiguous().numpy()
    with files.replacing(path) as unfinished:
        Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(unfinished, format="png")
