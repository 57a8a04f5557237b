"""Augmentation between the images and the discriminator, for small data: DiffAugment and ADA.

Real and fake images pass through the same random transformations, differentiable ones, so the generator is taught
through them and does not learn to draw them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from jsonargparse.typing import ClosedUnitInterval, PositiveFloat
from torch import Tensor

Rand = Callable[..., Tensor]
"""`rand(n, *shape)`: uniform [0, 1) noise of the run, this rank's rows."""


class Augment(Protocol):
    """What a model needs of an augmentation."""

    strength: float
    """How much it does, 0 to 1; saved with the weights."""

    def __call__(self, images: Tensor, rand: Rand) -> Tensor:
        """Images (B, C, H, W) in about [-1, 1] to the same shape, differentiable, each with transformations of its
        own."""

    def adapt(self, sign: Tensor, images: int) -> None:
        """`sign` is the mean sign of D on real images in the latest step, which saw `images` of them."""


@dataclass(frozen=True)
class AugmentOptions:
    """What the discriminator sees images through.

    Args:
        kind: ``none``; ``diffaugment`` (Zhao et al. 2020: colour, translation, cutout); ``ada`` (Karras et al. 2020:
            a longer list, applied with a probability that follows the discriminator's overfitting).
        target: For ada, the mean sign of D on real images that is aimed at.
        speed_kimg: For ada, thousands of images over which the probability can go from 0 to 1.
    """

    kind: Literal["none", "diffaugment", "ada"] = "none"
    target: ClosedUnitInterval = 0.6
    speed_kimg: PositiveFloat = 500.0

    def make(self) -> Augment | None:
        """The augmentation, None for ``none``."""
        if self.kind == "none":
            return None
        raise NotImplementedError(self.kind)
