"""Procedural faces: a person is what stays over all frames, a pose is what moves, and the landmarks are known exactly.

Lengths are in half sides of the picture, x to the right and y down, 0 in the middle. Everything is a function of
(split, person, frame).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

from lgen_reenact.landmarks import FINE, smaller
from lightning_gen import noise

Split = Literal["train", "test"]

VERSION = 1
"""Counts changes of the pictures: it names the content in digests."""
_STREAM = 0xFACE  # names the faces' hash; never a user's seed, for the set must be one and the same for everybody

Colour = tuple[float, float, float]
"""Red, green and blue in [0, 1]."""


@dataclass(frozen=True)
class Person:
    """What does not change from frame to frame."""

    skin: Colour
    hair: Colour
    ground: Colour
    iris: Colour
    width: float
    """Half width of the head."""
    height: float
    """Half height of the head."""
    fringe: float
    """How far the hair comes down over the forehead, a share of the head's half height."""
    length: float
    """How far the hair comes down beside the face: 0 to the ears, 1 below the chin."""
    beard: bool
    glasses: bool
    eyes: float
    """Half the distance between the eyes."""
    eye: float
    """Half width of an eye."""
    mouth: float
    """Half width of the mouth."""
    nose: float
    """Length of the nose."""

    def attributes(self) -> np.ndarray:
        """What can be seen of a person without landmarks, each in [0, 1]: the colours of skin, hair and ground, the
        hair's length, beard and glasses, (12,)."""
        return np.array([*self.skin, *self.hair, *self.ground, self.length, self.beard, self.glasses])


@dataclass(frozen=True)
class Pose:
    """What moves."""

    x: float
    y: float
    roll: float
    """Radians, clockwise."""
    yaw: float
    """-1 to 1: the head is turned left or right, and its parts move over it."""
    pitch: float
    """-1 to 1: up or down."""
    mouth: float
    """0 closed to 1 wide open."""
    smile: float
    """-1 to 1."""
    brows: float
    """-1 frowning to 1 raised."""
    lids: float
    """0.2 nearly shut to 1 open."""


def person(split: Split, number: int) -> Person:
    """The person `number` of a split; the splits share nobody."""
    draws = iter(_chances(split, number, 0, 20))

    def between(low: float, high: float) -> float:
        return low + (high - low) * next(draws)

    tone, warmth = next(draws), between(-0.04, 0.04)
    light, dark = np.array([0.99, 0.84, 0.72]), np.array([0.36, 0.23, 0.16])
    red, green, blue = (light + (dark - light) * tone).tolist()
    return Person(
        skin=(min(1.0, red + warmth), green, blue - warmth),
        hair=colorsys.hsv_to_rgb(next(draws), between(0.3, 0.8), between(0.15, 0.85)),
        ground=colorsys.hsv_to_rgb(next(draws), between(0.2, 0.6), between(0.3, 0.9)),
        iris=colorsys.hsv_to_rgb(next(draws), 0.7, 0.5),
        width=between(0.42, 0.54),
        height=between(0.56, 0.68),
        fringe=between(0.35, 0.65),
        length=next(draws),
        beard=next(draws) < 0.3,
        glasses=next(draws) < 0.3,
        eyes=between(0.19, 0.24),
        eye=between(0.09, 0.12),
        mouth=between(0.15, 0.23),
        nose=between(0.16, 0.26),
    )


def pose(split: Split, number: int, frame: int) -> Pose:
    """How the person `number` holds the head in a frame."""
    x, y, roll, yaw, pitch, mouth, smile, brows, lids = _chances(split, number, 1 + frame, 9) * 2 - 1
    return Pose(
        x=0.14 * x,
        y=0.10 * y,
        roll=0.30 * roll,
        yaw=yaw,
        pitch=pitch,
        mouth=max(0.0, mouth),  # closed half of the time
        smile=smile,
        brows=brows,
        lids=0.6 + 0.4 * lids,
    )


def _chances(split: Split, number: int, frame: int, count: int) -> np.ndarray:
    return noise.chance(np.arange(count), noise.mix(_STREAM, get_args(Split).index(split), number, frame))


def landmarks(who: Person, how: Pose) -> np.ndarray:
    """The 35 points of `lgen_reenact.landmarks.OURS`, (35, 2) float64."""
    across, down = 0.13 * how.yaw, 0.06 * how.pitch  # the parts of a face stand before the axis that it turns about
    angles = np.linspace(np.pi, 0, 9)
    jaw = np.stack([who.width * np.cos(angles), who.height * np.sin(angles)], axis=1)
    jaw[:, 0] += 0.25 * across * np.sin(angles)
    lift = 0.06 * how.brows
    brow = np.array([[-1.2, 0.0], [0.0, -0.35], [1.2, 0.0]]) * who.eye
    smaller_eye = who.eye * 0.6 * how.lids
    eye = np.array([[-who.eye, 0.0], [0.0, -smaller_eye], [who.eye, 0.0], [0.0, smaller_eye]])
    sides = [(-1, np.array([-who.eyes + across, -0.10 + down])), (1, np.array([who.eyes + across, -0.10 + down]))]
    brows = [place + brow - [0.0, 0.15 + lift] for _, place in sides]
    eyes = [place + eye for _, place in sides]
    tip = np.array([1.3 * across, -0.06 + who.nose + 1.3 * down])
    nose = np.array([[across, -0.08 + down], tip, tip + np.array([-0.06, 0.04]), tip + np.array([0.06, 0.04])])
    middle = np.array([1.1 * across, 0.33 + 1.1 * down])
    half, gap, corner = who.mouth, 0.03 + 0.12 * how.mouth, -0.06 * how.smile
    mouth = middle + np.array(
        [
            [-half, corner],
            [-0.5 * half, 0.3 * corner - 0.8 * gap],
            [0.0, -gap],
            [0.5 * half, 0.3 * corner - 0.8 * gap],
            [half, corner],
            [0.5 * half, 0.3 * corner + 0.8 * gap],
            [0.0, gap],
            [-0.5 * half, 0.3 * corner + 0.8 * gap],
        ]
    )
    return _turned(np.concatenate([jaw, *brows, *eyes, nose, mouth]), how)


def draw(who: Person, how: Pose, resolution: int) -> np.ndarray:
    """A frame, (3, resolution, resolution) uint8, anti-aliased."""
    side = FINE * resolution
    canvas = Image.new("RGB", (side, side), _ink(who.ground))
    pen = ImageDraw.Draw(canvas)
    points = landmarks(who, how)

    def fill(outline: np.ndarray, colour: Colour) -> None:
        pen.polygon([(float(x), float(y)) for x, y in _pixels(outline, side)], fill=_ink(colour))

    def line(outline: np.ndarray, colour: Colour, width: float) -> None:
        pen.line(
            [(float(x), float(y)) for x, y in _pixels(outline, side)],
            fill=_ink(colour),
            width=max(1, round(width * side / 2)),
            joint="curve",
        )

    def of_the_head(outline: np.ndarray) -> np.ndarray:
        return _turned(outline, how)

    shade = (0.8 * who.skin[0], 0.8 * who.skin[1], 0.8 * who.skin[2])
    fall = -0.1 + who.length * (who.height + 0.15)
    fill(of_the_head(_box(-1.18 * who.width, -0.25, 1.18 * who.width, fall)), who.hair)
    fill(of_the_head(_ellipse(0, -0.12, 1.18 * who.width, who.height)), who.hair)
    fill(of_the_head(_box(-0.16, 0.3, 0.16, 1.6)), shade)  # the neck
    fill(of_the_head(_box(-0.6, who.height + 0.22, 0.6, 1.9)), who.iris)  # a shirt in the colour of the eyes
    fill(of_the_head(_ellipse(0, 0, who.width, who.height)), who.skin)
    jaw = points[:9]
    if who.beard:
        lower = jaw[2:7]
        mouth = points[27:35].mean(0)
        fill(np.concatenate([lower, mouth + 0.75 * (lower[::-1] - mouth) * [[1.0, 0.35]]]), who.hair)
    top = _ellipse(0, 0, who.width, who.height)
    fill(of_the_head(top[top[:, 1] <= -who.height * (1 - who.fringe)]), who.hair)
    for brow in (points[9:12], points[12:15]):
        line(brow, (0.6 * who.hair[0], 0.6 * who.hair[1], 0.6 * who.hair[2]), 0.05)
    for eye in (points[15:19], points[19:23]):
        fill(_rounded(eye), (1.0, 1.0, 1.0))
        middle, height = eye.mean(0), np.linalg.norm(eye[3] - eye[1]) / 2
        fill(middle + _ellipse(0, 0, min(0.55 * who.eye, height), height), who.iris)
        fill(middle + _ellipse(0, 0, min(0.25 * who.eye, height), min(0.25 * who.eye, height)), (0.0, 0.0, 0.0))
        if who.glasses:
            line(middle + _ellipse(0, 0, 1.45 * who.eye, 1.25 * who.eye), (0.1, 0.1, 0.12), 0.04)
    line(points[[23, 25]], shade, 0.04)
    line(points[[25, 24, 26]], shade, 0.05)
    mouth = points[27:35]
    fill(mouth, (0.72, 0.25, 0.25))
    if how.mouth > 0:
        middle = mouth.mean(0)
        fill(middle + (mouth - middle) * 0.6, (0.25, 0.05, 0.08))
    return smaller(canvas, resolution)


def _turned(points: np.ndarray, how: Pose) -> np.ndarray:
    """From the head's own frame to the picture's."""
    cos, sin = np.cos(how.roll), np.sin(how.roll)
    return points @ np.array([[cos, sin], [-sin, cos]]) + [how.x, how.y]


def _pixels(outline: np.ndarray, side: int) -> np.ndarray:
    return (outline + 1) * (side / 2) - 0.5


def _ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _rounded(eye: np.ndarray) -> np.ndarray:
    """The ellipse through the corners and lids of an eye (4, 2)."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)[:, None]
    return eye.mean(0) + np.cos(angle) * (eye[2] - eye[0]) / 2 + np.sin(angle) * (eye[3] - eye[1]) / 2


def _ink(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(255 * min(1.0, max(0.0, value))) for value in colour)
    return red, green, blue
