"""Stacked MNIST: three digits as the colours of one picture, a thousand modes that can be counted."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lightning_gen import noise
from lightning_gen.data import folder
from lightning_gen.data.source import Batch, Source
from lightning_gen.data.torchvision_sets import MNIST
from lightning_gen.errors import UserError

VERSION = 1  # counts changes of which digits meet: it names the content in `digest`
_STREAM = 0x57AC  # names the draw of the digits; never a user's seed: the set is one and the same for everybody


def spelled(digits: Tensor) -> Tensor:
    """The numbers (B,) that rows of three digits (B, 3) int64 spell: red hundreds, green tens, blue ones."""
    return digits @ torch.tensor([100, 10, 1])


class StackedMNIST(Source):
    """Three random digits of MNIST as red, green and blue; 1,000 labels, the number that they spell.

    Metz et al. 2017 (Unrolled GAN, https://arxiv.org/abs/1611.02163); the size is that of Lin et al. 2018 (PacGAN,
    https://arxiv.org/abs/1712.04086). The metric `digits` counts the modes of samples.

    Args:
        root: Folder or archive of digits in class folders 0 to 9; torchvision's MNIST, downloaded once, if left out.
        resolution: Width and height.
        size: Number of pictures.
        split: ``train`` or ``test``: which digits are stacked.

    Raises:
        UserError: no digits there, more or fewer kinds of them than ten, or folders named otherwise.
    """

    def __init__(self, root: str = "", resolution: int = 32, size: int = 128_000, split: str = "train"):
        if size < 1:
            raise UserError(f"--data.size {size}: at least one image is needed")
        self._digits: Source = (
            folder.Folder(root, resolution, channels=1, split=split) if root else MNIST("", resolution, split)
        )
        if self._digits.num_classes != 10:
            raise UserError(f"--data.root {root}: ten folders of digits are needed, not {self._digits.num_classes}")
        # labels follow the sorted names: eight, five, four would be read as 0, 1, 2
        if root and (odd := set(self._digits.class_names) - set("0123456789")):
            raise UserError(f"--data.root {root}: the ten folders of digits are named 0 to 9, not {min(odd)}")
        self.image_shape = (3, resolution, resolution)
        self.class_names = [f"{number:03}" for number in range(1000)]
        self.split = self._digits.split
        self.title = f"stacked {self._digits.title}"
        self.size = size

    def __len__(self) -> int:
        return self.size

    def read(self, indices: np.ndarray) -> Batch:
        """Rows of three digits each."""
        digits = self._digits.read(self._chosen(indices).ravel())
        return {"image": digits["image"].view(-1, *self.image_shape), "label": spelled(digits["label"].view(-1, 3))}

    def _chosen(self, indices: np.ndarray) -> np.ndarray:
        """Which digits stand in the rows, (B, 3) int64."""
        places = 3 * np.asarray(indices, dtype=np.int64)[:, None] + np.arange(3)
        return (noise.chance(places, _STREAM) * len(self._digits)).astype(np.int64)

    def class_counts(self) -> Tensor:
        """Counted over all rows, (1000,) int64: 1,000 kinds of nearly equal frequency."""
        return self._counts

    @cached_property
    def _counts(self) -> Tensor:
        of_digits = self._digits.read(np.arange(len(self._digits)))["label"]
        chosen = torch.from_numpy(self._chosen(np.arange(self.size)))
        return torch.bincount(spelled(of_digits[chosen]), minlength=1000)

    def digest(self) -> str:
        """Hash of the digits and of the draw, of which the content is a function."""
        told = {"stacked": VERSION, "n": self.size, "digits": self._digits.digest()}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
