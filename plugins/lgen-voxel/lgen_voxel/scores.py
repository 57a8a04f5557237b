"""How well generated solids cover held-out ones: Achlioptas et al. 2018, section 2, with the overlap as distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skimage.measure import label
from torch import Tensor

from lightning_gen.data.source import Source
from lightning_gen.metrics.extractors import Extractor
from lightning_gen.metrics.features import FeatureSet
from lightning_gen.metrics.scores import Score

AT_ONCE = 256


class Solids(Score):
    """Coverage and minimum matching distance (1 - IoU) against all solids of the source, and how whole the solids are.

    ``coverage``: share of the source's solids that are the nearest one to some generated solid. ``mmd``: mean over the
    source's solids of the distance to the nearest generated one. ``whole``: share of a generated solid's voxels that
    hang together in its largest piece, mean over the solids. The first two rise or fall with the numbers of solids.
    """

    needs = frozenset({"pixels"})

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """Only volumes have voxels."""
        return "" if source.kind == "volume" else "the data has no voxels"

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"coverage": share, "mmd": distance, "whole": share}."""
        source = self.reference.source
        return compared(generated.pixels >= 128, source.read(np.arange(len(source)))["image"] >= 128)


def compared(made: Tensor, held_out: Tensor) -> dict[str, float]:
    """The three numbers of solids (N, X, Y, Z) bool against others (M, X, Y, Z)."""
    apart = distances(made, held_out)
    return {
        "coverage": len(apart.argmin(1).unique()) / len(held_out),
        "mmd": float(apart.min(0).values.mean()),
        "whole": float(np.mean([largest_piece(volume.numpy()) for volume in made])),
    }


def rebuilt(model: Any, solids: Tensor) -> Tensor:
    """What a model with an encoder makes of solids (N, X, Y, Z) bool: the same shape."""
    with torch.no_grad(), model.asked():
        parts = [model.decode(model.encode(part.float() * 2 - 1)) > 0 for part in solids.split(AT_ONCE)]
    return torch.cat(parts)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """1 - intersection over union of all pairs of solids (N, ...) and (M, ...) bool: (N, M) float32. An empty solid has
    distance 1 to every other."""
    right = b.flatten(1).float()
    many = right.sum(1)
    rows = []
    for part in a.flatten(1).split(AT_ONCE):
        left = part.float()
        shared = left @ right.T
        rows.append(1 - shared / (left.sum(1, keepdim=True) + many - shared).clamp_min(1))
    return torch.cat(rows)


def largest_piece(volume: np.ndarray) -> float:
    """The share of the solid voxels that hang together, by faces, edges or corners, in the largest piece; 0 of none."""
    pieces = np.bincount(label(volume, connectivity=3).flatten())[1:]
    return float(pieces.max() / pieces.sum()) if len(pieces) else 0.0
