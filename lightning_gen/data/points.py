"""Points of the plane from mixtures of Gaussians: the toy problem on which lost modes can be counted.

Every point is a function of (layout, split, row), as in `shapes`; it is a float "image" of two channels and one pixel.
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

Layout = Literal["ring-8", "grid-25"]
Split = Literal["train", "test"]

SAMPLE = 2500
"""How many points `modes_covered` looks at: with more of them, more modes would be hit by chance."""

VERSION = 1  # counts changes of the points: it names the content in `digest`
_STREAM = 0x9017  # names the points' hash; never a user's seed, for the set must be one and the same for everybody


class Mixture(NamedTuple):
    """Gaussians of equal weight and of one deviation in both directions."""

    centres: Tensor
    """(modes, 2) float32, in [-1, 1]."""
    deviation: float


def mixture(layout: Layout) -> Mixture:
    """The papers' mixtures, scaled so that the outermost coordinate is 0.8.

    ``ring-8``: radius 2, deviation 0.02 (Metz et al. 2017, Unrolled GAN). ``grid-25``: from -4 to 4 in steps of 2,
    deviation 0.05 (Srivastava et al. 2017, VEEGAN, section 4.1; Lin et al. 2018, PacGAN, section 4.1).
    """
    if layout == "ring-8":
        angle = torch.arange(8, dtype=torch.float64) * (torch.pi / 4)
        return Mixture((0.8 * torch.stack([angle.cos(), angle.sin()], dim=1)).float(), 0.008)
    line = torch.linspace(-0.8, 0.8, 5)
    return Mixture(torch.cartesian_prod(line, line), 0.01)


def modes_covered(points: Tensor, layout: Layout) -> dict[str, float]:
    """{"modes_covered": how many, "high_quality": share} of the first 2,500 of `points`, (N, 2) or (N, 2, 1, 1).

    A point is of high quality within three deviations of its nearest centre, and a mode is covered by one such point:
    the convention of Srivastava et al. 2017 and Lin et al. 2018.
    """
    centres, deviation = mixture(layout)
    distance, mode = torch.cdist(points[:SAMPLE].flatten(1).double().cpu(), centres.double()).min(dim=1)
    close = distance <= 3 * deviation
    return {"modes_covered": len(mode[close].unique()), "high_quality": float(close.float().mean())}


class Points(Source):
    """Points of the plane from 8 Gaussians on a ring or 25 on a grid; the label says which.

    Args:
        layout: ``ring-8`` or ``grid-25``.
        size: Number of points. As many in a row as there are Gaussians hold every one once.
        split: ``train`` or ``test``; they share no point.
    """

    kind = "points"

    def __init__(self, layout: Layout = "grid-25", size: int = 100000, split: Split = "train"):
        for name, value, known in (("layout", layout, get_args(Layout)), ("split", split, get_args(Split))):
            if value not in known:
                raise UserError(f"--data.{name} {value}: {' or '.join(known)}{nearest(value, known)}")
        if size < 1:
            raise UserError(f"--data.size {size}: at least one point is needed")
        self.layout: Layout = layout
        self.size = size
        self.split: Split = split
        self.mixture = mixture(layout)
        self.image_shape = (2, 1, 1)
        self.class_names = [f"around ({x:.1f}, {y:.1f})" for x, y in self.mixture.centres.tolist()]
        self.title = f"points {layout}"

    def __len__(self) -> int:
        return self.size

    def read(self, indices: np.ndarray) -> Batch:
        """The rows `indices` (B,): `image` float32 (B, 2, 1, 1) in about [-1, 1], `label` int64 (B,)."""
        indices = np.asarray(indices, dtype=np.int64)
        labels = torch.from_numpy(indices % self.num_classes)
        length, turn = (noise.chance(indices, self._stream(factor)) for factor in (0, 1))
        length, turn = np.sqrt(-2 * np.log1p(-length)), 2 * np.pi * turn  # Box & Muller 1958
        around = torch.from_numpy(np.stack([length * np.cos(turn), length * np.sin(turn)], axis=1)).float()
        points = self.mixture.centres[labels] + self.mixture.deviation * around
        return {"image": points[:, :, None, None], "label": labels}

    def _stream(self, factor: int) -> int:
        return noise.mix(_STREAM, get_args(Layout).index(self.layout), get_args(Split).index(self.split), factor)

    def class_counts(self) -> Tensor:
        """Points of each Gaussian, (num_classes,) int64: equal up to one."""
        return torch.bincount(torch.arange(self.size) % self.num_classes, minlength=self.num_classes)

    def digest(self) -> str:
        """Hash of the generator's version and the settings, of which the content is a function."""
        told = {"points": VERSION, "layout": self.layout, "n": self.size, "split": self.split}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
