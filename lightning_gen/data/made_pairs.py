"""Pairs made on the fly: any pictures are the targets, and what a model starts from is made of them.

A subclass says how (`degrade`). What is left to chance (holes, noise) is a function of a number for each row: of the
row itself in `read`, so that a set is the same for everybody who is scored on it, and of the place in the stream when
training, where every epoch brings new ones.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen import noise
from lightning_gen.data import archive, folder
from lightning_gen.data.folder import usual_side
from lightning_gen.data.pairs import Drawn, as_bytes, choice, keys_of, mirrored_views
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError

Mask = Literal["square", "half", "strokes", "pixels", "mixed"]
Kernel = Literal["bicubic", "bicubic-aliased"]

GREY = (0.299, 0.587, 0.114)
"""Luma of ITU-R BT.601, as Pillow's."""


class MadePairs(Source):
    """What all of them share: a base source, and pairs of what `degrade` makes of its pictures and these."""

    views = ("source", "target")
    paired = True
    notes: list[str]
    """What a user should know about how the set was read, as sentences."""

    def __init__(self, base: Source, how: str, flip: bool):
        self.base = base
        self.image_shape = base.image_shape
        self.class_names = []
        self.split = base.split
        self.title = f"{base.title}, {how}"
        self.notes = list(getattr(base, "notes", []))
        self.decodable = getattr(base, "decodable", False)
        self._how = how
        self._flip = flip

    @abstractmethod
    def degrade(self, target: Tensor, keys: np.ndarray) -> Tensor:
        """What a model starts from, uint8 (B, *input_shape), made of `target` (B, *image_shape); chance is a function
        of `keys` (B,) int64."""

    def __len__(self) -> int:
        return len(self.base)

    def read(self, indices: np.ndarray) -> Batch:
        """`source`, and as `target` and `image` the picture itself."""
        indices = np.asarray(indices, dtype=np.int64)
        target = self.base.read(indices)["image"]
        return {self.views[0]: self.degrade(target, indices), self.views[1]: target, "image": target}

    def truth(self, indices: np.ndarray) -> Mapping[str, np.ndarray] | None:
        """What the pictures show."""
        return self.base.truth(indices) if self.decodable else None

    def digest(self) -> str:
        """Of the pictures, and what is done to them."""
        return hashlib.sha256(f"{self.base.digest()}\0{self._how}".encode()).hexdigest()

    def augment(self, batch: Batch, chance: np.ndarray) -> Batch:
        """Chance falls anew; with `flip`, pairs are mirrored together."""
        target = batch[self.views[1]]
        anew = {self.views[0]: self.degrade(target, keys_of(chance)), self.views[1]: target}
        return mirrored_views(anew, self.views, chance, self._flip)


class Colorize(MadePairs):
    """Grey to colour: the target is a colour picture, the source its luma.

    Args:
        root: Folder or archive of colour pictures; left out, `shapes`.
        resolution: Width and height to which pictures are brought.
        split: Which part to read.
        flip: Mirror half of the pairs, each time anew, when training.
    """

    def __init__(self, root: str = "", resolution: int = 32, split: str = "train", flip: bool = False):
        super().__init__(_base(root, resolution, 3, split), "grey to colour", flip)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """One channel."""
        return (1, *self.image_shape[1:])

    def degrade(self, target: Tensor, keys: np.ndarray) -> Tensor:
        """The luma."""
        return _grey(target)


class Inpaint(MadePairs):
    """Filling in what is missing: the source is the picture with holes in the middle grey of its range.

    Args:
        root: Folder or archive of pictures; left out, `shapes`.
        mask: Kind of the holes: a square of half the side anywhere, one half of the picture, brush strokes, three of
            four pixels, or any of these.
        resolution: Width and height to which pictures are brought.
        channels: 3 for colour, 1 for grey.
        split: Which part to read.
        flip: Mirror half of the pairs, each time anew, when training.
    """

    def __init__(
        self,
        root: str = "",
        mask: Mask = "square",
        resolution: int = 32,
        channels: int = 3,
        split: str = "train",
        flip: bool = False,
    ):
        choice("mask", mask, get_args(Mask))
        self.mask: Mask = mask
        super().__init__(_base(root, resolution, channels, split), f"holes ({mask})", flip)

    def degrade(self, target: Tensor, keys: np.ndarray) -> Tensor:
        """Grey where the hole is."""
        return torch.where(torch.from_numpy(holes(self.mask, keys, target.shape[-1]))[:, None], 128, target)


class Edges(MadePairs):
    """Drawing to picture: the source is the strength of the picture's edges, black on white.

    Args:
        root: Folder or archive of pictures; left out, `shapes`.
        resolution: Width and height to which pictures are brought.
        channels: 3 for colour, 1 for grey, of the target.
        split: Which part to read.
        flip: Mirror half of the pairs, each time anew, when training.
    """

    def __init__(
        self, root: str = "", resolution: int = 32, channels: int = 3, split: str = "train", flip: bool = False
    ):
        super().__init__(_base(root, resolution, channels, split), "edges to picture", flip)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """One channel."""
        return (1, *self.image_shape[1:])

    def degrade(self, target: Tensor, keys: np.ndarray) -> Tensor:
        """Length of Sobel's gradient, in the channel where it is longest (colours of one luma have edges too), so
        scaled that a step by a quarter of the range is black."""
        levels = F.pad(target.float(), (1, 1, 1, 1), mode="replicate")
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
        slopes = F.conv2d(levels.flatten(0, 1)[:, None], torch.stack([across, across.T])[:, None])
        lengths = slopes.norm(dim=1).unflatten(0, target.shape[:2])
        return as_bytes(255 - 4 * lengths.amax(1, keepdim=True))


class Denoise(MadePairs):
    """Taking noise away: the source is the picture plus normal noise, rounded and clipped to bytes.

    Args:
        root: Folder or archive of pictures; left out, `shapes`.
        deviation: Of the noise, in levels of 255.
        resolution: Width and height to which pictures are brought.
        channels: 3 for colour, 1 for grey.
        split: Which part to read.
        flip: Mirror half of the pairs, each time anew, when training.
    """

    def __init__(
        self,
        root: str = "",
        deviation: float = 25.0,
        resolution: int = 32,
        channels: int = 3,
        split: str = "train",
        flip: bool = False,
    ):
        if not 0 < deviation < math.inf:
            raise UserError(f"--data.deviation {deviation:g}: more than 0, and finite")
        self.deviation = deviation
        super().__init__(_base(root, resolution, channels, split), f"noise of {deviation:g}", flip)

    def degrade(self, target: Tensor, keys: np.ndarray) -> Tensor:
        """Noise of each row's own."""
        rows = [np.random.default_rng([0xD0, int(key)]).standard_normal(target.shape[1:], np.float32) for key in keys]
        return as_bytes(target + self.deviation * torch.from_numpy(np.stack(rows)))


class SuperResolution(MadePairs):
    """Small pictures to large ones: `high` is a crop of a picture, `low` the same made smaller.

    Training draws its crops anew every time; `read` gives those of the centre.

    Args:
        root: Folder or archive of large pictures; left out, `shapes`.
        factor: How many times larger the side of `high` is: 2, 4 or 8.
        kernel: How `low` is made: `bicubic` (antialiased, a = -0.5, as Pillow and MATLAB) or `bicubic-aliased` (four
            by four pixels whatever the factor, a = -0.75, as OpenCV).
        resolution: Width and height of the crops, `high`; a multiple of the factor.
        side: Width and height to which pictures are brought before crops are taken; left out, the shorter side that
            most of them have, so that hardly any is resized.
        channels: 3 for colour, 1 for grey.
        split: Which part to read.
        flip: Mirror half of the pairs, each time anew, when training.
    """

    views = ("low", "high")

    def __init__(
        self,
        root: str = "",
        factor: int = 4,
        kernel: Kernel = "bicubic",
        resolution: int = 32,
        side: int | None = None,
        channels: int = 3,
        split: str = "train",
        flip: bool = False,
    ):
        choice("kernel", kernel, get_args(Kernel))
        if factor not in (2, 4, 8):
            raise UserError(f"--data.factor {factor}: 2, 4 or 8")
        if resolution < factor:
            raise UserError(f"--data.resolution {resolution} is too small: the --data.factor {factor} or more")
        if resolution % factor:
            raise UserError(f"--data.resolution {resolution} is no multiple of --data.factor {factor}")
        side = side or (usual_side(root, split)[0] if root else resolution)
        if side < resolution:
            raise UserError(f"--data.resolution {resolution}: no crop of that size in pictures of {side} x {side}")
        self.factor = factor
        self.kernel: Kernel = kernel
        super().__init__(_base(root, side, channels, split), f"x{factor} {kernel}, crops of {resolution}", flip)
        self.image_shape = (channels, resolution, resolution)
        self.decodable = self.decodable and side == resolution

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`low`."""
        channels, height, width = self.image_shape
        return (channels, height // self.factor, width // self.factor)

    def degrade(self, target: Tensor, keys: np.ndarray) -> Tensor:
        """As `kernel` says, rounded to bytes."""
        return reduced(target, self.factor, self.kernel)

    def read(self, indices: np.ndarray) -> Batch:
        """Crops of the centre."""
        pictures = self.base.read(np.asarray(indices, dtype=np.int64))["image"]
        corner = (pictures.shape[-1] - self.image_shape[-1]) // 2
        high = self._crops(pictures, np.full((len(pictures), 2), corner))
        return {"low": self.degrade(high, indices), "high": high, "image": high, "picture": pictures}

    def augment(self, batch: Batch, chance: np.ndarray) -> Batch:
        """Crops from anywhere."""
        pictures, keys = batch["picture"], keys_of(chance)
        places = np.stack([noise.chance(keys, axis) for axis in (1, 2)], axis=1)
        high = self._crops(pictures, (places * (pictures.shape[-1] - self.image_shape[-1] + 1)).astype(np.int64))
        return mirrored_views({"low": self.degrade(high, keys), "high": high}, self.views, chance, self._flip)

    def _crops(self, pictures: Tensor, corners: np.ndarray) -> Tensor:
        side = self.image_shape[-1]
        if pictures.shape[-1] == side:
            return pictures
        crops = [p[:, y : y + side, x : x + side] for p, (y, x) in zip(pictures, corners, strict=True)]
        return torch.stack(crops)


def reduced(images: Tensor, factor: int, kernel: Kernel = "bicubic") -> Tensor:
    """Bytes (B, C, H, W) to (B, C, H / factor, W / factor), rounded; sides must be multiples of the factor."""
    size = (images.shape[-2] // factor, images.shape[-1] // factor)
    return as_bytes(F.interpolate(images.float(), size, mode="bicubic", antialias=kernel == "bicubic"))


def holes(mask: Mask, keys: np.ndarray, side: int) -> np.ndarray:
    """Where pictures are missing, bool (B, side, side): a function of the kind and of `keys` (B,) int64 alone."""
    return np.stack([_hole(mask, np.random.default_rng([0x401E, int(key)]), side) for key in keys])


def _hole(mask: Mask, random: np.random.Generator, side: int) -> np.ndarray:
    if mask == "mixed":
        mask = ("square", "half", "strokes", "pixels")[random.integers(4)]
    if mask == "pixels":
        return random.random((side, side)) < 0.75
    hole = np.zeros((side, side), bool)
    if mask == "square":
        y, x = random.integers(0, side - side // 2 + 1, 2)
        hole[y : y + side // 2, x : x + side // 2] = True
    elif mask == "half":
        hole[:, : side // 2] = True
        hole = np.rot90(hole, int(random.integers(4))).copy()
    else:  # strokes: straight brush strokes of random ends and breadths
        y, x = np.mgrid[:side, :side] / side
        for _ in range(random.integers(3, 7)):
            (y0, x0, y1, x1), breadth = random.random(4), random.uniform(0.03, 0.08)
            along = ((y - y0) * (y1 - y0) + (x - x0) * (x1 - x0)) / max((y1 - y0) ** 2 + (x1 - x0) ** 2, 1e-6)
            along = np.clip(along, 0, 1)
            hole |= np.hypot(y - y0 - along * (y1 - y0), x - x0 - along * (x1 - x0)) < breadth
    return hole


def _grey(images: Tensor) -> Tensor:
    """Luma of bytes (B, C, H, W), (B, 1, H, W) in bytes."""
    if images.shape[1] == 1:
        return images
    return as_bytes((images.float() * torch.tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True))


def _base(root: str, resolution: int, channels: int, split: str) -> Source:
    """The pictures of `root`; `shapes` where there is none."""
    if not root:
        return Drawn(resolution, channels, split)
    source = folder.Folder(root, resolution, channels, split)
    source.title = archive.title(root)
    return source
