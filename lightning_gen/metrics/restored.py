"""Scores of translations whose right answer is known: each against the picture that it should be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from lightning_gen.data.source import Source
from lightning_gen.metrics import paired
from lightning_gen.metrics.extractors import Extractor
from lightning_gen.metrics.features import FeatureSet
from lightning_gen.metrics.scores import Score

AT_ONCE = 256
"""Pairs that are compared at a time."""


class PSNR(Score):
    """Peak signal-to-noise ratio of translations, in decibels: the mean over the pictures."""

    needs = frozenset({"pixels"})
    row_by_row = True

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """There must be a right answer, large enough for the windows of SSIM."""
        if not source.paired:
            return "the data has no pairs"
        return "" if min(source.image_shape[1:]) >= paired.WINDOW else "the pictures are smaller than SSIM's window"

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"psnr": mean}."""
        parts = [(paired.psnr(ours, right), len(ours)) for ours, right in self.pairs(generated)]
        return {"psnr": _mean(parts)}

    def pairs(self, generated: FeatureSet) -> Iterator[tuple[Tensor, Tensor]]:
        """Translations, of the rows 0, 1 ... of the source, and what they should be: (n, C, H, W) uint8 each."""
        source = self.reference.source
        for start in range(0, generated.count, AT_ONCE):
            ours = generated.pixels[start : start + AT_ONCE]
            rows = np.arange(start, start + len(ours)) % len(source)
            yield ours, source.read(rows)[source.views[1]]


class SSIM(PSNR):
    """Structural similarity of translations and the pictures that they should be: the mean over the pictures."""

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"ssim": mean}."""
        parts = [(paired.ssim(ours, right), len(ours)) for ours, right in self.pairs(generated)]
        return {"ssim": _mean(parts)}


def _mean(parts: list[tuple[float, int]]) -> float:
    return sum(value * n for value, n in parts) / sum(n for _, n in parts)
