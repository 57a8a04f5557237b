"""Pictures rendered from known factors: the embedded data, which needs no download.

Every image is one shape of one colour on a plain ground. Its factors are a function of (split, variation, row) and
the picture is a function of its factors, so any row can be rendered alone, at any resolution, in any style, and what
a generator draws can be compared with the truth (`lightning_gen.data.decoder`).

Lengths are in units of half the picture's side: x and y run from -1 (left, top) to 1, whatever the resolution.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from lightning_gen import noise
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError, nearest

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")

# Any two colours lie at least 88 apart in RGB, and every colour at least 122 from every ground.
COLOURS = {
    "red": (196, 24, 40),
    "orange": (238, 112, 20),
    "yellow": (244, 204, 40),
    "green": (40, 158, 70),
    "cyan": (40, 192, 214),
    "blue": (44, 86, 214),
    "purple": (122, 56, 184),
    "pink": (236, 84, 160),
}
BACKGROUNDS = {"black": (17, 18, 22), "navy": (26, 38, 84), "beige": (232, 220, 196), "white": (246, 246, 242)}

CLASS_NAMES = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]
"""Name of label `shape * len(COLOURS) + colour`: 48 modes."""

Factors = dict[str, np.ndarray]
"""`shape`, `colour`, `background` (N,) int64; `size`, `x`, `y`, `rotation` (N,) float64; see `draw_factors`."""

Variation = Literal["gentle", "full"]
Split = Literal["train", "test"]
Style = Literal["filled", "outline", "hatched"]


class Ranges(NamedTuple):
    """What a variation draws from, uniformly."""

    size: tuple[float, float]
    shift: float
    """Most that the centre lies off the middle; shapes keep inside the picture besides."""
    turn: float
    """Most that a shape is turned either way, in radians."""


RANGES = {"gentle": Ranges((0.5, 0.7), 0.09, np.pi / 15), "full": Ranges((0.25, 0.7), 1.0, np.pi)}

VERSION = 1  # counts changes of the pixels: it names the content in `digest`
_STREAM = 0x5AFE5  # names the factors' hash; never a user's seed, for the set must be one and the same for everybody
_REACH = 1.3  # no shape reaches further than _REACH * size from its centre
_KEPT = 1 << 27  # a set up to this many bytes is rendered once and kept
_CHUNK = 1 << 17  # pixels rendered at once: the temporaries stay in the processor's cache


class Shapes(Source):
    """Rendered shapes of known colour, size, place, rotation and ground; 48 labels (shape x colour).

    Args:
        resolution: Side of the images, a power of two from 8 to 256.
        channels: 3 for colour, 1 for grey (labels keep the colour, which grey shows poorly).
        size: Number of images. Every 48 in a row hold every label once.
        variation: ``gentle``: large, nearly centred, little rotation. ``full``: any size, place and rotation.
        split: ``train`` or ``test``; they share no image.
    """

    def __init__(
        self,
        resolution: int = 32,
        channels: int = 3,
        size: int = 10000,
        variation: Variation = "gentle",
        split: Split = "train",
    ):
        if resolution not in (8, 16, 32, 64, 128, 256):
            raise UserError(f"--data.resolution {resolution}: shapes are drawn at a power of two from 8 to 256")
        if channels not in (1, 3):
            raise UserError(f"--data.channels {channels}: 3 (colour) or 1 (grey)")
        if size < 1:
            raise UserError(f"--data.size {size}: at least one image is needed")
        _choice("variation", variation, get_args(Variation))
        _choice("split", split, get_args(Split))
        self.image_shape = (channels, resolution, resolution)
        self.class_names = list(CLASS_NAMES)
        self.size = size
        self.variation: Variation = variation
        self.split: Split = split
        self.title = f"shapes {variation}"
        self._kept: Tensor | None = None

    @property
    def decodable(self) -> bool:
        """Whether `lightning_gen.data.decoder` can judge images like these."""
        return self.image_shape[0] == 3 and self.image_shape[1] >= 32

    def __len__(self) -> int:
        return self.size

    def read(self, indices: np.ndarray) -> Batch:
        """Images and labels of the rows `indices` (B,): uint8 (B, *image_shape), int64 (B,)."""
        indices = np.asarray(indices, dtype=np.int64)
        labels = torch.from_numpy(_labels(indices, self.split))
        if self._kept is None and self.size * int(np.prod(self.image_shape)) <= _KEPT:
            self._kept = self._render(np.arange(self.size))
        image = self._render(indices) if self._kept is None else self._kept[torch.from_numpy(indices)]
        return {"image": image, "label": labels}

    def _render(self, indices: np.ndarray) -> Tensor:
        return render(self.factors(indices), self.image_shape[1], self.image_shape[0])

    def factors(self, indices: np.ndarray) -> Factors:
        """The truth about the rows `indices` (B,); keys, units and ranges as in `draw_factors`."""
        return draw_factors(indices, self.split, self.variation)

    def captions(self, indices: np.ndarray) -> list[str]:
        """One sentence a row, as "a small red circle on navy"; small is below the middle of the variation's sizes."""
        return captions(self.factors(indices), self.variation)

    def class_counts(self) -> Tensor:
        """Rows of each label, (48,) int64: equal up to one."""
        return torch.bincount(torch.from_numpy(_labels(np.arange(self.size), self.split)), minlength=len(CLASS_NAMES))

    def digest(self) -> str:
        """Hash of the generator's version and the settings, of which the content is a function."""
        told = {"shapes": VERSION, "image": self.image_shape, "n": self.size, "of": [self.variation, self.split]}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _choice(setting: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"--data.{setting} {value}: {' or '.join(known)}{nearest(value, known)}")


def draw_factors(indices: np.ndarray, split: Split = "train", variation: Variation = "gentle") -> Factors:
    """The factors of rows `indices` (N,) of a split.

    `shape`, `colour`, `background` are indices into SHAPES, COLOURS, BACKGROUNDS; `size` is the radius of the circle,
    the other shapes about as large; `x` and `y` are the centre; `rotation` is in radians, clockwise.
    """
    indices = np.asarray(indices, dtype=np.int64)
    ranges = RANGES[variation]
    labels = _labels(indices, split)
    background, size, x, y, rotation = (_chance(indices, split, variation, factor) for factor in range(5))
    size = ranges.size[0] + size * (ranges.size[1] - ranges.size[0])
    room = np.minimum(ranges.shift, 1 - _REACH * size)
    return {
        "shape": labels // len(COLOURS),
        "colour": labels % len(COLOURS),
        "background": (background * len(BACKGROUNDS)).astype(np.int64),
        "size": size,
        "x": (2 * x - 1) * room,
        "y": (2 * y - 1) * room,
        "rotation": (2 * rotation - 1) * ranges.turn,
    }


def captions(factors: Factors, variation: Variation = "gentle") -> list[str]:
    """What `factors` show, one sentence a row; `variation` says which sizes count as small."""
    shape, colour, background = (factors[key] for key in ("shape", "colour", "background"))
    middle = sum(RANGES[variation].size) / 2
    colours, grounds = list(COLOURS), list(BACKGROUNDS)
    return [
        f"a {'small' if size < middle else 'large'} {colours[c]} {SHAPES[s]} on {grounds[b]}"
        for size, s, c, b in zip(factors["size"], shape, colour, background, strict=True)
    ]


def render(factors: Factors, resolution: int = 32, channels: int = 3, style: Style = "filled") -> Tensor:
    """The pictures of `factors`, uint8 (N, channels, resolution, resolution), anti-aliased.

    Grey is the luma of ITU-R BT.601. The style "outline" draws the line around the shape, "hatched"
    every other bar of it, a sixteenth of the picture high, both in its colour.
    """
    ground, ink = _paint(BACKGROUNDS, channels)[factors["background"]], _paint(COLOURS, channels)[factors["colour"]]
    n = len(ground)
    images = np.empty((n, channels, resolution, resolution), dtype=np.uint8)
    step = max(1, _CHUNK // resolution**2)
    for shape in range(len(SHAPES)):
        rows = np.flatnonzero(factors["shape"] == shape)
        for start in range(0, len(rows), step):
            here = rows[start : start + step]
            size, x, y, rotation = (factors[key][here] for key in ("size", "x", "y", "rotation"))
            covered = coverage(shape, size, x, y, rotation, resolution, style)
            picture = covered[:, None] * (ink - ground)[here, :, None, None]
            picture += ground[here, :, None, None] + np.float32(0.5)  # truncation then rounds
            images[here] = picture.astype(np.uint8)
    return torch.from_numpy(images)


def coverage(
    shape: int,
    size: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    rotation: np.ndarray,
    resolution: int = 32,
    style: Style = "filled",
) -> np.ndarray:
    """How much of each pixel one kind of shape covers, (N, resolution, resolution) float32 in [0, 1].

    Sine and cosine are taken once an image, in float64; a pixel sees sums, products and square roots only, which every
    processor rounds alike: the same factors give the same bytes everywhere.
    """
    pixels = (np.arange(resolution) * 2 + 1) / resolution - 1
    cos, sin = np.cos(rotation), np.sin(rotation)

    def along(a: np.ndarray, b: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """(a X + b Y - shift) / size at every pixel: one coordinate of the shape's own frame."""
        across = (a[:, None] * pixels - shift[:, None]) / size[:, None]
        down = b[:, None] * pixels / size[:, None]
        return across.astype(np.float32)[:, None, :] + down.astype(np.float32)[:, :, None]

    distance = _DISTANCES[shape](along(cos, sin, cos * x + sin * y), along(-sin, cos, cos * y - sin * x))
    if style == "outline":
        distance = np.abs(distance + np.float32(0.07)) - np.float32(0.07)  # a line just inside the edge
    distance *= (-resolution / 2 * size).astype(np.float32)[:, None, None]
    distance += np.float32(0.5)
    covered = np.clip(distance, 0, 1, out=distance)
    if style == "hatched":
        covered[:, np.arange(resolution) // max(1, resolution // 16) % 2 == 1] = 0
    return covered


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v) - np.float32(1)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(u * u + v * v) - np.float32(0.8)) - np.float32(0.25)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.9)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Equilateral, a corner up (v runs down), its centroid in the middle; inner radius half the outer."""
    slope = np.abs(u) * np.float32(np.sqrt(3) / 2) - v * np.float32(0.5)
    return np.maximum(slope, v) - np.float32(0.65)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - np.float32(1.05), np.minimum(u, v) - np.float32(0.35))


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five points, one up: mirrored into one tenth of the circle, where the edge is one straight line.

    The mirrors and their order are those of I. Quilez, https://iquilezles.org/articles/distfunctions2d (sdStar5).
    """
    outer, inner = 1.2, 0.56
    c, s = np.cos(np.pi / 5), np.sin(np.pi / 5)
    u, v = np.abs(u), -v
    for a, b in ((c, -s), (-c, -s)):
        a, b = np.float32(a), np.float32(b)
        beyond = np.maximum(u * a + v * b, np.float32(0)) * np.float32(2)
        u, v = u - beyond * a, v - beyond * b
    u, v = np.abs(u), v - np.float32(outer)
    edge = np.array([inner * s, inner * c - outer])  # from the point at the top to the next notch
    edge /= np.hypot(*edge)
    return v * np.float32(edge[0]) - u * np.float32(edge[1])


_DISTANCES = (_circle, _square, _triangle, _star, _cross, _ring)
"""In the order of SHAPES: a distance to the edge, negative inside, of points in the shape's own frame, where size is 1.

Near the edge it is the distance itself, which is all that anti-aliasing needs; far from it, or at corners, less.
"""


def _paint(palette: dict[str, tuple[int, int, int]], channels: int) -> np.ndarray:
    """(len(palette), channels) float32 levels."""
    colours = np.array(list(palette.values()), dtype=np.float32)
    return (
        colours
        if channels == 3
        else (colours * np.array([0.299, 0.587, 0.114], dtype=np.float32)).sum(1, keepdims=True)
    )


def _chance(indices: np.ndarray, split: str, variation: str, factor: int) -> np.ndarray:
    """One uniform number in [0, 1) a row, (N,) float64, independent for every split, variation and factor."""
    seed = noise.mix(_STREAM, get_args(Split).index(split), get_args(Variation).index(variation), factor)
    return noise.chance(indices, seed)


def _labels(indices: np.ndarray, split: str) -> np.ndarray:
    """Labels (N,) int64: in every block of 48 rows each label once, in an order of the block's own."""
    n = len(CLASS_NAMES)
    block = indices[:, None] // n * n + np.arange(n)
    draws = noise.chance(block, noise.mix(_STREAM, get_args(Split).index(split)))
    own = np.take_along_axis(draws, indices[:, None] % n, axis=1)
    return (draws < own).sum(axis=1)
