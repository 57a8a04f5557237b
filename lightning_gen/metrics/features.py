"""What is kept of a set of images once an extractor has seen it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from lightning_gen.metrics.extractors import Features
from lightning_gen.metrics.frechet import FeatureStatistics

Kind = Literal["statistics", "features", "logits", "pixels"]


class FeatureSet:
    """The features of up to `n` images, and only as much of them as some score needs.

    Sums take a few megabytes whatever `n`; features, logits and pixels are kept row by row on the CPU, each in one
    block that is reserved at once: 50,000 x 2,048 features are 400 MB, and never twice that.

    Args:
        n: The most images that are added.
        needs: Which of "statistics", "features", "logits", "pixels" to keep.
    """

    def __init__(self, n: int, needs: Collection[Kind]):
        self.n = n
        self.needs = frozenset(needs)
        self.count = 0
        self.labels: Tensor | None = None
        """What the images were asked to show, (n,) int64; None where nobody asked."""
        self._statistics: FeatureStatistics | None = None
        self._rows: dict[str, Tensor] = {}

    def add(self, found: Features, pixels: Tensor) -> None:
        """Take in what the extractor said of `pixels`, (B, C, H, W) uint8; of points, (B, 2, 1, 1) float32, nothing."""
        if len(pixels) == 0:
            return
        if "statistics" in self.needs:
            if self._statistics is None:
                self._statistics = FeatureStatistics.empty(found.features.shape[1])
            self._statistics.update(found.features)
        for kind, rows in (("features", found.features), ("logits", found.logits), ("pixels", pixels)):
            if kind in self.needs and rows is not None:
                if kind not in self._rows:
                    self._rows[kind] = torch.empty((self.n, *rows.shape[1:]), dtype=rows.dtype)
                self._rows[kind][self.count : self.count + len(rows)] = rows.cpu()
        self.count += len(pixels)

    @property
    def statistics(self) -> FeatureStatistics:
        """Count, sum and outer products of the features.

        Raises:
            KeyError: not kept, or nothing was added.
        """
        if self._statistics is None:
            raise KeyError("statistics")
        return self._statistics

    @property
    def features(self) -> Tensor:
        """(count, D) float32."""
        return self._rows["features"][: self.count]

    @property
    def logits(self) -> Tensor:
        """(count, K) float32."""
        return self._rows["logits"][: self.count]

    @property
    def pixels(self) -> Tensor:
        """(count, C, H, W) uint8; of points float32."""
        return self._rows["pixels"][: self.count]
