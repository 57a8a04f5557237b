"""Landmarks of a face and the picture of them that the networks look at."""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

FINE = 4
"""Pictures are drawn this many times as large and made smaller by averaging: that is their anti-aliasing."""


class Part(NamedTuple):
    """Points that belong together and are joined by a line."""

    name: str
    points: range
    closed: bool = False


OURS = (
    Part("jaw", range(0, 9)),
    Part("left brow", range(9, 12)),
    Part("right brow", range(12, 15)),
    Part("left eye", range(15, 19), closed=True),
    Part("right eye", range(19, 23), closed=True),
    Part("nose", range(23, 27)),
    Part("mouth", range(27, 35), closed=True),
)
"""The 35 landmarks of the faces that `lgen_reenact.face` draws."""

DLIB = (
    Part("jaw", range(0, 17)),
    Part("left brow", range(17, 22)),
    Part("right brow", range(22, 27)),
    Part("nose bridge", range(27, 31)),
    Part("nostrils", range(31, 36)),
    Part("left eye", range(36, 42), closed=True),
    Part("right eye", range(42, 48), closed=True),
    Part("outer lips", range(48, 60), closed=True),
    Part("inner lips", range(60, 68), closed=True),
)
"""The 68 landmarks of the 300-W annotation, as dlib and face-alignment give them (Sagonas et al. 2013, figure 1)."""


def parts_of(count: int) -> tuple[Part, ...]:
    """How so many landmarks are joined: 35 and 68 are known, of others each is a part of its own."""
    known = {35: OURS, 68: DLIB}
    return known.get(count) or tuple(Part(f"point {i}", range(i, i + 1)) for i in range(count))


def draw(points: np.ndarray, resolution: int) -> np.ndarray:
    """The landmarks (P, 2), x and y in [-1, 1] from the left and the top, as lines: (3, resolution, resolution) uint8.

    Each part has a colour of its own on black (Zakharov et al. 2019, section 3: "rasterized into a three-channel
    image using a predefined set of colors").
    """
    side = FINE * resolution
    canvas = Image.new("RGB", (side, side))
    pen = ImageDraw.Draw(canvas)
    at = (points + 1) * (side / 2) - 0.5
    wide = max(1, round(side / 32))
    parts = parts_of(len(points))
    for number, part in enumerate(parts):
        red, green, blue = colorsys.hsv_to_rgb(number / len(parts), 0.75, 1.0)
        colour = (round(255 * red), round(255 * green), round(255 * blue))
        line = [(float(x), float(y)) for x, y in at[list(part.points)]]
        if len(line) == 1:
            (x, y) = line[0]
            pen.ellipse([x - wide, y - wide, x + wide, y + wide], fill=colour)
        else:
            pen.line([*line, line[0]] if part.closed else line, fill=colour, width=wide, joint="curve")
    return smaller(canvas, resolution)


def smaller(canvas: Image.Image, resolution: int) -> np.ndarray:
    """A picture made smaller by averaging whole blocks of pixels, (3, resolution, resolution) uint8."""
    reduced = canvas.reduce(canvas.width // resolution)
    return np.ascontiguousarray(np.asarray(reduced).transpose(2, 0, 1))
