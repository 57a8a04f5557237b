"""Pictures of any size through a model that translates: padded to what it takes, in tiles where they are large."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen import images
from lightning_gen.errors import UserError
from lightning_gen.module import GenerativeModule

LARGEST_TILE = 512
"""Side of a tile in pixels of the input; half of it where the picture is enlarged by 4, for memory is taken by what
comes out."""

SEEN_WHOLE = 4
"""Tiles of a network that looks at the whole picture overlap by their side divided by this: nothing makes them equal to
the untiled picture, so they are blended over a broad seam."""


SMALLEST = 16
"""Pixels that a side is padded to: networks that mirror their maps at the border need some pixels of them."""


class Translator:
    """A model, and how pictures are brought before it.

    Tiles overlap and are blended linearly. Where the overlap is at least twice the model's `reach`, the part of a tile
    that lacks its surroundings is not used at all, and the result is that of the whole picture to float rounding. A
    network without a reach (instance norm, U-Net) sees each tile as a picture of its own: then there are no seams, but
    colours may differ from the untiled picture's. A model that restores encodes and decodes tiles of its one size.

    Args:
        model: One that translates, or restores.
        view: Which of its views the pictures are.
        tile: Largest side of what it is given at once, in pixels of the input; left out, 512 (256 where it enlarges by
            4). Rounded up to the model's stride.
        overlap: Pixels that neighbouring tiles share; left out, twice the model's reach, or a quarter of the tile.
        group: The label that pictures shall get, of a model that translates between groups.
        options: Of the model's `generate`.

    Raises:
        UserError: an overlap of half a tile or more, or tiles that a model of one size does not read.
    """

    def __init__(
        self,
        model: GenerativeModule,
        view: str,
        tile: int | None = None,
        overlap: int | None = None,
        group: int | None = None,
        **options: Any,
    ):
        self.model = model
        self.view = view
        self.group = group
        self.options = options
        self.factor = 1 if model.restores else model.image_shape[-1] // model.input_shape[-1]
        self.stride, self.least = (1, model.image_shape[-1]) if model.restores else (model.stride, SMALLEST)
        if model.restores and tile not in (None, self.least):
            raise UserError(f"--tile {tile}: the model reads {self.least} pixels a side at once")
        tile = self.least if model.restores else tile
        wanted = tile or min(LARGEST_TILE, 2 * LARGEST_TILE // self.factor)
        usual = wanted // SEEN_WHOLE if model.reach is None else 2 * model.reach
        if tile is None and overlap is None:
            wanted = max(wanted, 3 * usual)  # a network that sees far: tiles of little else than overlap cost too much
        self.overlap = usual if overlap is None else overlap
        if tile is not None and overlap is None:
            self.overlap = min(usual, tile // 2 - 1)
        self.tile = math.ceil(wanted / self.stride) * self.stride
        if 2 * self.overlap >= self.tile:
            raise UserError(f"--overlap {self.overlap}: less than half of a tile, which has {self.tile} pixels a side")

    def fits(self, height: int, width: int) -> bool:
        """Whether a picture is given to the model as a whole."""
        return max(height, width) <= self.tile

    def whole(self, pictures: Tensor) -> Tensor:
        """Pictures (B, C, H, W) uint8 of one size at once to (B, C', factor H, factor W) uint8."""
        height, width = pictures.shape[-2:]
        given = padded(pictures, self.stride, self.least)
        return self._made(given)[..., : height * self.factor, : width * self.factor].cpu()

    def tiled(self, picture: Tensor) -> Tensor:
        """A picture (C, H, W) uint8 tile by tile to (C', factor H, factor W) uint8.

        One row of tiles is held as floats at a time, so memory grows with the picture's width, not its area.
        """
        height, width = picture.shape[-2:]
        given = padded(picture, self.stride, self.least)
        rows, columns = (self._starts(length) for length in given.shape[-2:])
        tall, wide = (min(self.tile, length) for length in given.shape[-2:])
        row_weights, column_weights = (self._weights(starts, size) for starts, size in ((rows, tall), (columns, wide)))
        f = self.factor
        out = torch.empty(self.model.image_shape[0], height * f, width * f, dtype=torch.uint8)
        open_rows = torch.zeros(len(out), tall * f, given.shape[-1] * f)
        for i, top in enumerate(rows):
            for j, left in enumerate(columns):
                tile = given[..., top : top + tall, left : left + wide]
                made = self._drawn(tile[None])[0].cpu() * (row_weights[i][:, None] * column_weights[j])
                open_rows[..., left * f : (left + wide) * f] += made
            done = (rows[i + 1] - top if i + 1 < len(rows) else tall) * f
            end = min(top * f + done, height * f)
            if end > top * f:
                out[:, top * f : end] = images.to_uint8(open_rows[:, : end - top * f, : width * f])
            open_rows = torch.cat([open_rows[:, done:], torch.zeros_like(open_rows[:, :done])], dim=1)
        return out

    def _drawn(self, given: Tensor) -> Tensor:
        if not self.model.restores:
            wanted = {} if self.group is None else {"label": torch.full((len(given),), self.group)}
            return self.model.sample(len(given), condition={self.view: given, **wanted}, **self.options).float()
        with torch.no_grad(), self.model.asked():
            return self.model.decode(self.model.encode(images.from_uint8(given.to(self.model.device)))).float()

    def _made(self, given: Tensor) -> Tensor:
        return images.to_uint8(self._drawn(given))

    def _starts(self, length: int) -> list[int]:
        """Where tiles begin along a side: evenly, at multiples of the stride, overlapping by `overlap` or more."""
        if length <= self.tile:
            return [0]
        stride = self.stride
        advance = max(stride, (self.tile - self.overlap) // stride * stride)
        count = 1 + math.ceil((length - self.tile) / advance)
        last = length - self.tile
        return [min(round(i * last / (count - 1) / stride) * stride, i * advance) for i in range(count - 1)] + [last]

    def _weights(self, starts: Sequence[int], size: int) -> list[Tensor]:
        """What each tile's pixels of the output count along one side, (size * factor,) each; they add up to 1."""
        weights = []
        for i, start in enumerate(starts):
            weight = torch.ones(size * self.factor, dtype=torch.float64)
            if i > 0:
                ramp = self._ramp(starts[i - 1] + size - start)
                weight[: len(ramp)] *= ramp
            if i + 1 < len(starts):
                ramp = self._ramp(start + size - starts[i + 1])
                weight[-len(ramp) :] *= ramp.flip(0)
            weights.append(weight)
        total = torch.zeros((starts[-1] + size) * self.factor, dtype=torch.float64)
        for start, weight in zip(starts, weights, strict=True):
            total[start * self.factor :][: len(weight)] += weight
        return [
            (weight / total[start * self.factor :][: len(weight)]).float()
            for start, weight in zip(starts, weights, strict=True)
        ]

    def _ramp(self, shared: int) -> Tensor:
        """Rising from 0 to 1 over what a tile shares with the one before it: 0 where it lacks its surroundings."""
        reach = self.model.reach or 0
        blind = reach if shared >= 2 * reach else shared // 4
        place = torch.arange(shared * self.factor, dtype=torch.float64) + 0.5
        return ((place - blind * self.factor) / max(1, (shared - 2 * blind) * self.factor)).clamp(0, 1)


def padded(pictures: Tensor, stride: int, least: int = SMALLEST) -> Tensor:
    """Pictures (..., H, W), mirrored at the right and the bottom until their sides are multiples of `stride`, and
    `least` pixels or more."""
    height, width = pictures.shape[-2:]
    down, right = (math.ceil(max(side, least) / stride) * stride - side for side in (height, width))
    if not down and not right:
        return pictures
    room = [(0, 0)] * (pictures.ndim - 2) + [(0, down), (0, right)]
    return torch.from_numpy(np.pad(pictures.numpy(), room, mode="reflect"))


def in_batches(
    pictures: Iterator[tuple[str, Tensor]], translator: Translator, batch_size: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, picture and translation of each of `pictures`, (C, H, W) uint8; neighbours of one size go together."""
    waiting: list[tuple[str, Tensor]] = []

    def translated() -> Iterator[tuple[str, Tensor, Tensor]]:
        if waiting:
            made = translator.whole(torch.stack([picture for _, picture in waiting]))
            yield from ((name, picture, result) for (name, picture), result in zip(waiting, made, strict=True))
        waiting.clear()

    for name, picture in pictures:
        small = translator.fits(*picture.shape[-2:])
        if waiting and (not small or picture.shape != waiting[0][1].shape or len(waiting) == batch_size):
            yield from translated()
        if small:
            waiting.append((name, picture))
        else:
            yield name, picture, translator.tiled(picture)
    yield from translated()
