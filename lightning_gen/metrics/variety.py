"""How much samples differ from each other, as ratios to real images: what the rules on mode collapse read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gen.metrics.extractors import Features


@dataclass(frozen=True)
class Yardstick:
    """What the same measures say of a set of real images; see `watch/modes.py` for the definitions."""

    distance: float
    """Mean distance between two images."""
    near: float
    """1st percentile of the distances to the nearest other image."""
    classes: float | None
    """Classes in effective use, None where the extractor classifies nothing."""

    @classmethod
    def of(cls, real: Features) -> Yardstick:
        """From the features of a few hundred real images."""
        distances = _distances(real.features)
        return cls(_mean(distances), float(_nearest(distances).quantile(0.01)), _effective_classes(real.logits))

    def compare(self, samples: Features, labels: Tensor | None = None) -> dict[str, float]:
        """{"diversity", "duplicates", "class_spread"} of the features of samples, (N, D), N of at least 2.

        Of samples that were drawn for `labels` (N,), only those of other labels count as near-duplicates: a
        conditional generator begins with one picture for each label.
        """
        distances = _distances(samples.features)
        nearest = _nearest(distances)
        if labels is not None and len(labels.unique()) > 1:
            nearest = distances.masked_fill(labels[:, None] == labels, torch.inf).amin(dim=1)
        found = {
            "diversity": _mean(distances) / max(self.distance, 1e-12),
            "duplicates": float((nearest < self.near).double().mean()),
        }
        classes = _effective_classes(samples.logits)
        if self.classes is not None and classes is not None:
            found["class_spread"] = classes / self.classes
        return found


def _distances(features: Tensor) -> Tensor:
    rows = features.double().cpu()
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _mean(distances: Tensor) -> float:
    n = len(distances)
    return float(distances.sum() / (n * (n - 1)))


def _nearest(distances: Tensor) -> Tensor:
    return distances.kthvalue(2, dim=1).values  # the first is the image itself


def _effective_classes(logits: Tensor | None) -> float | None:
    """exp(entropy) of the mean predicted distribution of hard choices."""
    if logits is None:
        return None
    shares = torch.bincount(logits.argmax(dim=1).cpu(), minlength=logits.shape[1]).double() / len(logits)
    return float(torch.special.entr(shares).sum().exp())
