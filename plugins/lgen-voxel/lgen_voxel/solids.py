"""Procedural solids: eight kinds of upright things of random sizes, each a function of (split, row)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from lightning_gen import noise

Split = Literal["train", "test"]

VERSION = 1
"""Counts changes of the solids: it names the content in digests."""
_STREAM = 0x501D  # names the solids' hash; never a user's seed, for the set must be one and the same for everybody

Grid = tuple[np.ndarray, np.ndarray, np.ndarray]
"""x, y and z of every voxel's middle, -1 to 1; z upwards."""
Draw = Callable[[float, float], float]
"""A length between two bounds, another one at each call."""


def _box(at: Grid, draw: Draw) -> np.ndarray:
    return _block(at, draw(0.3, 0.75), draw(0.3, 0.75), -0.8, draw(-0.2, 0.8))


def _ellipsoid(at: Grid, draw: Draw) -> np.ndarray:
    x, y, z = at
    return (x / draw(0.4, 0.85)) ** 2 + (y / draw(0.4, 0.85)) ** 2 + (z / draw(0.4, 0.85)) ** 2 <= 1


def _cylinder(at: Grid, draw: Draw) -> np.ndarray:
    x, y, z = at
    return (np.hypot(x, y) <= draw(0.3, 0.8)) & (z >= -0.8) & (z <= draw(-0.2, 0.8))


def _cone(at: Grid, draw: Draw) -> np.ndarray:
    x, y, z = at
    top = draw(0.2, 0.9)
    return (np.hypot(x, y) <= draw(0.5, 0.85) * (top - z) / (top + 0.8)) & (z >= -0.8) & (z <= top)


def _ring(at: Grid, draw: Draw) -> np.ndarray:
    x, y, z = at
    thick = draw(0.15, 0.28)
    return (np.hypot(x, y) - draw(0.5, 0.65)) ** 2 + z**2 <= thick**2


def _stairs(at: Grid, draw: Draw) -> np.ndarray:
    _, y, z = at
    rise = draw(0.8, 1.6)
    height = -0.8 + rise * (np.floor((y + 0.75) / 1.5 * 4) + 1) / 4
    return _block(at, draw(0.4, 0.75), 0.75, -0.8, 0.8) & (z <= height)


def _table(at: Grid, draw: Draw) -> np.ndarray:
    across, along, top = draw(0.45, 0.75), draw(0.45, 0.75), draw(-0.1, 0.6)
    return _legs(at, across, along, top) | _block(at, across, along, top - 0.2, top)


def _chair(at: Grid, draw: Draw) -> np.ndarray:
    _, y, _ = at
    across, along, seat, back = draw(0.4, 0.65), draw(0.4, 0.65), draw(-0.2, 0.1), draw(0.6, 0.9)
    behind = _block(at, across, along, seat, back) & (y >= along - 0.2)
    return _legs(at, across, along, seat) | _block(at, across, along, seat - 0.18, seat) | behind


def _block(at: Grid, across: float, along: float, low: float, high: float) -> np.ndarray:
    x, y, z = at
    return (np.abs(x) <= across) & (np.abs(y) <= along) & (z >= low) & (z <= high)


def _legs(at: Grid, across: float, along: float, top: float) -> np.ndarray:
    x, y, _ = at
    inside = _block(at, across, along, -0.85, top)
    return inside & (np.abs(x) >= across - 0.18) & (np.abs(y) >= along - 0.18)


KINDS = {
    "box": _box,
    "ellipsoid": _ellipsoid,
    "cylinder": _cylinder,
    "cone": _cone,
    "ring": _ring,
    "stairs": _stairs,
    "table": _table,
    "chair": _chair,
}


def solid(row: int, split: Split, side: int) -> np.ndarray:
    """The solid of a row, (side, side, side) bool; of eight rows each is of another kind."""
    chances = iter(noise.chance(np.arange(8), noise.mix(_STREAM, get_args(Split).index(split), row)))
    turn = 0.5 * (next(chances) - 0.5)  # a quarter of a radian to both sides

    def draw(low: float, high: float) -> float:
        return float(low + (high - low) * next(chances))

    middle = (np.arange(side) * 2 + 1) / side - 1
    x, y, z = np.meshgrid(middle, middle, middle, indexing="ij")
    cos, sin = np.cos(turn), np.sin(turn)
    kind = list(KINDS.values())[row % len(KINDS)]
    return kind((cos * x + sin * y, cos * y - sin * x, z), draw)
