"""What every data source promises: rows by index, as uint8, without order and without chance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

Batch = dict[str, Any]
"""`image` (B, C, H, W), uint8 or for points float32; `label` (B,) int64; `caption`, B sentences; a source of
translations adds its `views`."""


class Source(ABC):
    """Images that a model trains on or is scored against.

    A source is a table: it knows its length and returns any rows at once. In which order rows are drawn, and
    which of them are mirrored, is decided by `lightning_gen.data.stream` from (seed, images seen), so a resumed
    run repeats and skips nothing.

    Subclasses take typed keyword arguments: their signature and docstring are the settings under ``--data.``,
    and set the attributes below in ``__init__``.
    """

    kind: ClassVar[Literal["image", "volume", "points"]] = "image"
    views: ClassVar[tuple[str, ...]] = ("image",)
    """What a training batch holds. Of a translation the picture that it starts from and the one that it makes:
    `source` and `target`, `a` and `b`, `low` and `high`; `image` in what `read` gives is then the second one."""
    captioned: ClassVar[bool] = False
    """Whether `read` also gives `caption`, a list of B sentences."""
    context: ClassVar[tuple[str, ...]] = ()
    """What else `read` gives, uint8, for models that look at more than the picture that they start from."""
    photographs: ClassVar[bool] = False
    """Whether these are photographs, for which a model may have a preset of that name."""
    paired: ClassVar[bool] = False
    """Whether the second view of a row is what the first one should become."""

    image_shape: tuple[int, int, int]
    """(channels, height, width) of every image; of a volume its sides (x, y, z), z upwards."""
    class_names: list[str]
    """Name of every label, in the order of the labels; empty where there are no labels."""
    split: str
    """Which part of the set this is, as a passport names it: "train", "test", "all"."""
    title: str = ""
    """What the set is called where a score says its reference, in a few words."""

    @property
    def num_classes(self) -> int:
        """How many labels there are."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what a translation starts from, the first view."""
        return self.image_shape

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, indices: np.ndarray) -> Batch:
        """The rows `indices` (B,) int64, in that order, as tensors: `image` uint8 (B, *image_shape), `label` int64.

        The `image` of a point is float32, in about [-1, 1].
        """

    @abstractmethod
    def digest(self) -> str:
        """A hex digest of the content: equal digests mean equal pixels and labels in equal order."""

    def augment(self, batch: Batch, chance: np.ndarray) -> Batch:
        """The batch as training sees it.

        `chance` (B,) holds one uniform number in [0, 1) for each row, a function of (seed, position in the
        stream). The default changes nothing; sources of photographs mirror where their setting asks for it.
        """
        return batch

    def examples(self, n: int, *, seed: int = 0, start: int = 0) -> Batch:
        """What images `start .. start+n` of a translating model are made from: the rows of these numbers, from the
        front again after the last one. Which pictures there are is no matter of chance, so `seed` changes nothing."""
        batch = self.read(np.arange(start, start + n) % len(self))
        return {key: batch[key] for key in (*self.views, *self.context)}

    def model_settings(self) -> dict[str, Any]:
        """What a model that has settings of these names must know of the data besides its shape and its classes, such
        as a vocabulary: plain values, which run.yaml and checkpoints then hold."""
        return {}

    def truth(self, indices: np.ndarray) -> Mapping[str, np.ndarray] | None:
        """What the translations of the rows `indices` should show, as `shapes` names its factors; None where nobody
        knows."""
        return None

    def class_counts(self) -> Tensor:
        """How many rows each class has, (num_classes,) int64. By default every row is read for its label: sources that
        are large know it without."""
        counts = torch.zeros(self.num_classes, dtype=torch.int64)
        for start in range(0, len(self) if self.num_classes else 0, 1024):
            rows = self.read(np.arange(start, min(start + 1024, len(self))))
            counts += torch.bincount(rows["label"], minlength=self.num_classes)
        return counts
