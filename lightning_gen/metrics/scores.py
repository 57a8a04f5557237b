"""Registered metrics: what is kept of each batch of generated images, and the numbers that come of it.

A score is made from a reference source and an extractor, is fed batches with `update`, gives its numbers with
`compute` and is emptied with `reset`. The extractor's one pass over a batch serves all scores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_gen.data.source import Source
from lightning_gen.metrics import reference
from lightning_gen.metrics.extractors import Extractor, Features
from lightning_gen.metrics.frechet import FeatureStatistics, frechet_distance_from_statistics
from lightning_gen.metrics.inception import inception_score


class Score(ABC):
    """One registered metric of one run."""

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """Why this metric cannot be computed here, in a few words; empty when it can."""
        return ""

    @abstractmethod
    def __init__(self, source: Source, extractor: Extractor): ...

    @abstractmethod
    def reset(self) -> None:
        """Forget all batches."""

    @abstractmethod
    def update(self, images: Tensor, features: Features) -> None:
        """Take in images (N, C, H, W) uint8 and what the extractor made of them."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The numbers, under the names that records and tables use."""


class FID(Score):
    """Fréchet distance to every image of the source, named by its extractor: the papers' FID is Inception's."""

    def __init__(self, source: Source, extractor: Extractor):
        self.name = f"fid/{extractor.name}"
        self.dim = extractor.feature_dim
        self.reference = reference.statistics(source, extractor)
        self.reset()

    def reset(self) -> None:
        """Empty statistics."""
        self.generated = FeatureStatistics.empty(self.dim)

    def update(self, images: Tensor, features: Features) -> None:
        """Add to the sums."""
        self.generated.update(features.features)

    def compute(self) -> dict[str, float]:
        """{"fid/EXTRACTOR": distance}."""
        return {self.name: frechet_distance_from_statistics(self.reference, self.generated)}


class InceptionScore(Score):
    """Inception score, mean over 10 splits, of the extractor's own classifier."""

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """An extractor without a classifier has no such score."""
        return "" if extractor.logit_dim else f"{extractor.name} classifies nothing"

    def __init__(self, source: Source, extractor: Extractor):
        self.name = f"is/{extractor.name}"
        self.reset()

    def reset(self) -> None:
        """No logits."""
        self.logits: list[Tensor] = []

    def update(self, images: Tensor, features: Features) -> None:
        """Keep the logits."""
        assert features.logits is not None
        self.logits.append(features.logits.cpu())

    def compute(self) -> dict[str, float]:
        """{"is/EXTRACTOR": mean, "is/EXTRACTOR/std": deviation over the splits}."""
        score = inception_score(torch.cat(self.logits))
        return {self.name: score["mean"], f"{self.name}/std": score["std"]}


class ModeCoverage(Score):
    """On `shapes`, where the truth is known: modes drawn, and the share of images that are a shape at all."""

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """Only `shapes` has a decoder."""
        return "" if getattr(source, "decodable", False) else "only the data `shapes` has an exact decoder"

    def __init__(self, source: Source, extractor: Extractor):
        self.reset()

    def reset(self) -> None:
        """No images."""
        self.images: list[Tensor] = []

    def update(self, images: Tensor, features: Features) -> None:
        """Keep the images."""
        self.images.append(images.cpu())

    def compute(self) -> dict[str, float]:
        """{"mode_coverage": of 48, "on_manifold": share}."""
        from lightning_gen.data import decoder  # renders its templates when it is imported

        return decoder.score(torch.cat(self.images))
