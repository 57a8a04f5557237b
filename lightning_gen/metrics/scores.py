"""Registered metrics: from the features of generated images, and those of a reference, to numbers.

A score says what it needs of the images; the extractor's one pass over them serves all scores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from lightning_gen.data import points, stacked_mnist
from lightning_gen.data.source import Source
from lightning_gen.metrics import digits
from lightning_gen.metrics.extractors import Extractor
from lightning_gen.metrics.features import FeatureSet, Kind
from lightning_gen.metrics.frechet import frechet_distance_from_statistics
from lightning_gen.metrics.inception import inception_score
from lightning_gen.metrics.kernel import kernel_distance
from lightning_gen.metrics.neighbours import prdc
from lightning_gen.metrics.passport import Plain
from lightning_gen.metrics.reference import Reference


class Score(ABC):
    """One registered metric, bound to a reference."""

    needs: ClassVar[frozenset[Kind]] = frozenset({"features"})
    """What of the generated images must be kept until the end."""

    row_by_row: ClassVar[bool] = False
    """It compares image i with row i of the reference: images that are not made from those rows have no such score."""

    fewest: ClassVar[tuple[int, int]] = (1, 1)
    """Generated images that it needs at least, and images of the reference."""

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """Why this metric cannot be computed here, in a few words; empty when it can."""
        return ""

    @classmethod
    def too_few(cls, n: int, source: Source) -> str:
        """Why it cannot be computed of `n` generated images and those of `source`; empty when it can."""
        for given, least, which in zip((n, len(source)), cls.fewest, ("images", "reference images"), strict=True):
            if given < least:
                return f"it needs at least {least} {which}, not {given}"
        return ""

    def __init__(self, reference: Reference):
        self.reference = reference
        self.label = label(reference.extractor)

    def prepare(self) -> None:  # noqa: B027 - nothing is right for a score without a reference
        """Get from the reference what `compute` will want: what is missing is then said before any sampling."""

    def settings(self, n: int) -> Mapping[str, Plain]:
        """What of this metric's own changes its number when `n` images are scored; the passport keeps it."""
        return {}

    @abstractmethod
    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """The numbers, under the names that records and tables use."""


def label(extractor: Extractor) -> str:
    """How the names of scores say the extractor: `inception-v3-compat`, and `inception-v3-compat-clean` where
    another resize than its usual one was chosen."""
    usual = extractor.resizes[0]
    return extractor.name if extractor.resize == usual else f"{extractor.name}-{extractor.resize}"


class FID(Score):
    """Fréchet distance to every image of the source, named by its extractor: the papers' FID is Inception's."""

    needs = frozenset({"statistics"})
    fewest = (2, 2)

    def prepare(self) -> None:
        """The sums."""
        _ = self.reference.statistics

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"fid/EXTRACTOR": distance}."""
        distance = frechet_distance_from_statistics(self.reference.statistics, generated.statistics)
        return {f"fid/{self.label}": distance}


class InceptionScore(Score):
    """Inception score of the extractor's own classifier: mean over 10 splits, and of the set as a whole."""

    needs = frozenset({"logits"})
    SPLITS = 10
    fewest = (SPLITS, 1)

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """An extractor without a classifier has no such score."""
        return "" if extractor.logit_dim else f"{extractor.name} classifies nothing"

    def settings(self, n: int) -> Mapping[str, Plain]:
        """How many splits."""
        return {"is.splits": self.SPLITS}

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"is/EXTRACTOR": mean, "is/EXTRACTOR/std": deviation over the splits, "is/EXTRACTOR/1-split": of all}."""
        split = inception_score(generated.logits, self.SPLITS)
        whole = inception_score(generated.logits, 1)
        name = f"is/{self.label}"
        return {name: split["mean"], f"{name}/std": split["std"], f"{name}/1-split": whole["mean"]}


class KID(Score):
    """Kernel distance to the source, mean over 100 subsets of 1,000 images (fewer where a set has fewer)."""

    SUBSETS = 100
    SUBSET_SIZE = 1000
    fewest = (2, 2)

    def prepare(self) -> None:
        """All features."""
        _ = self.reference.features

    def settings(self, n: int) -> Mapping[str, Plain]:
        """Number and size of the subsets."""
        size = min(self.SUBSET_SIZE, n, len(self.reference.source))
        return {"kid.subsets": self.SUBSETS, "kid.subset_size": size}

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"kid/EXTRACTOR": mean, "kid/EXTRACTOR/std": deviation over the subsets}."""
        size = int(self.settings(generated.count)["kid.subset_size"])
        distance = kernel_distance(generated.features, self.reference.features, self.SUBSETS, size)
        return {f"kid/{self.label}": distance["mean"], f"kid/{self.label}/std": distance["std"]}


class PRDC(Score):
    """Precision, recall, density and coverage against every image of the source."""

    K = 3
    fewest = (K + 1, K + 1)

    def prepare(self) -> None:
        """All features, and how far each image's ball reaches."""
        if len(self.reference.source) > self.K:  # else `compute` says what is wrong
            _ = self.reference.reach(self.K)

    def settings(self, n: int) -> Mapping[str, Plain]:
        """Which neighbour."""
        return {"prdc.k": self.K}

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"precision/EXTRACTOR", "recall/…", "density/…", "coverage/…"}."""
        reach = self.reference.reach(self.K)
        found = prdc(self.reference.features, generated.features, self.K, real_reach=reach)
        return {f"{name}/{self.label}": value for name, value in found.items()}


class ModeCoverage(Score):
    """On `shapes`, where the truth is known: modes drawn, the share of images that are a shape at all, and of a model
    that was asked for labels, the share of images that show theirs."""

    needs = frozenset({"pixels"})

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """Only `shapes` has a decoder."""
        return "" if getattr(source, "decodable", False) else "only the data `shapes` has an exact decoder"

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"mode_coverage": of 48, "on_manifold": share}; with labels also {"label_accuracy", "shape_accuracy",
        "colour_accuracy"}."""
        from lightning_gen.data import decoder  # renders its templates when it is imported

        return decoder.score(generated.pixels, generated.labels)


class PointCoverage(Score):
    """On `points`: modes with a sample within three deviations, and the share of samples that are so near to one."""

    needs = frozenset({"pixels"})

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """Only `points` has known centres."""
        return "" if isinstance(source, points.Points) else "only the data `points` has known centres"

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"modes_covered": of 8 or 25, "high_quality": share}."""
        source = self.reference.source
        assert isinstance(source, points.Points)
        return points.modes_covered(generated.pixels, source.layout)


class DigitCoverage(Score):
    """On `stacked-mnist`: modes drawn, of 1,000, and how far their frequencies are from the data's."""

    needs = frozenset({"pixels"})

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """Only `stacked-mnist` spells numbers."""
        return "" if isinstance(source, stacked_mnist.StackedMNIST) else "only the data `stacked-mnist` has digits"

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"modes_covered": of 1,000, "mode_kl": nats}."""
        return digits.coverage(generated.pixels, self.reference.source.class_counts())
