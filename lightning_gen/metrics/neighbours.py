"""Precision, recall, density and coverage from nearest neighbours in feature space.

Precision and recall: Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric" (arXiv:1904.06991), section 2.
Density and coverage: Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics" (arXiv:2002.09797), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.checks import as_pair

_AT_ONCE = 1 << 18
"""Distances in memory at a time, 512 rows by 512: 2 MiB of float64, which processors cache; larger is no faster."""


def prdc(real: Tensor, fake: Tensor, k: int = 3, *, real_reach: Tensor | None = None) -> dict[str, float]:
    """Share of fakes among the reals (precision, density) and of reals among the fakes (recall, coverage).

    A ball around each picture reaches its k-th nearest neighbour in its own set, itself not counted. Precision is the
    share of fakes inside some real ball, recall the share of reals inside some fake ball, density the mean number of
    real balls around a fake over k, coverage the share of real balls that hold a fake. Balls are closed, as in
    torch-fidelity; k is 3 there and in Kynkäänniemi et al., 5 in the experiments of Naeem et al.

    Args:
        real: features (N, D) float.
        fake: features (M, D) float.
        k: which neighbour, 1 <= k < min(N, M).
        real_reach: what `reach(real, k)` gave, where it is known: with many reals that is most of the work.

    Returns:
        `{"precision", "recall", "density", "coverage"}`, in [0, 1] but for density, which may exceed 1.

    Raises:
        TypeError, ValueError: not finite float matrices of one width.
        UserError: k is not smaller than both sets.
    """
    real, fake = as_pair(real, fake, ("real", "fake"))
    if not 1 <= k < min(len(real), len(fake)):
        raise UserError(
            f"k must be at least 1 and smaller than both sets, not {k} for {len(real)} real and {len(fake)} fake images"
        )
    # Distances do not change under a shift, and rounding is smaller near the origin. A row of the data, not its mean:
    # float64 holds the differences of float32 numbers, so ties stay ties.
    origin = real[0].double()
    real_reach = _reach(real, origin, k) if real_reach is None else real_reach.to(real.device)
    fake_reach = _reach(fake, origin, k)

    around = torch.zeros(len(fake), dtype=torch.int64, device=real.device)
    real_inside = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    real_holds = torch.zeros_like(real_inside)
    for rows, fakes in _parts(fake, origin):
        for columns, reals in _parts(real, origin):
            distances = _squared_distances(fakes, reals)
            in_real_balls = distances <= real_reach[columns]
            around[rows] += in_real_balls.sum(dim=1)
            real_holds[columns] |= in_real_balls.any(dim=0)
            real_inside[columns] |= (distances <= fake_reach[rows, None]).any(dim=0)
    return {
        "precision": float((around > 0).double().mean()),
        "recall": float(real_inside.double().mean()),
        "density": float(around.double().mean() / k),
        "coverage": float(real_holds.double().mean()),
    }


def reach(real: Tensor, k: int = 3) -> Tensor:
    """Squared radius of the ball around each of `real` (N, D): (N,) float64, for `prdc`."""
    return _reach(real, real[0].double(), k)


def _reach(features: Tensor, origin: Tensor, k: int) -> Tensor:
    """Squared distance of each row's k-th nearest other row, (N,) float64, a rounding error wider.

    Without that, a picture exactly on the sphere (the k-th neighbour itself, a copy in the other set) would be in or
    out by the chance of the order in which a matrix product adds.
    """
    nearest = torch.full((len(features), k + 1), math.inf, dtype=torch.float64, device=features.device)
    farthest = torch.zeros((), dtype=torch.float64, device=features.device)
    for rows, part in _parts(features, origin):
        farthest = farthest.maximum(part.square().sum(dim=1).max())
        for columns, other in _parts(features, origin, rows.start):  # what is left of them was seen from there
            distances = _squared_distances(part, other)
            _keep_smallest(nearest[rows], distances)
            if columns != rows:
                _keep_smallest(nearest[columns], distances.T)
    reach = nearest.amax(dim=1)  # of k + 1: the first is the row itself
    return reach * (1 + 1e-9) + 1e-14 * farthest


def _keep_smallest(kept: Tensor, values: Tensor) -> None:
    """Let each row of `kept` (n, m) hold the m smallest of itself and the same row of `values` (n, any)."""
    few = values.topk(min(kept.shape[1], values.shape[1]), dim=1, largest=False, sorted=False).values
    kept.copy_(torch.cat([kept, few], dim=1).topk(kept.shape[1], dim=1, largest=False, sorted=False).values)


def _parts(features: Tensor, origin: Tensor, start: int = 0) -> Iterator[tuple[slice, Tensor]]:
    """Rows of `features` seen from `origin`, some after some: which, and (rows, D) float64."""
    step = max(1, math.isqrt(_AT_ONCE))
    for first in range(start, len(features), step):
        rows = slice(first, min(first + step, len(features)))
        yield rows, features[rows] - origin


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of all rows of `a` to all of `b`, (len(a), len(b))."""
    square_a, square_b = a.square().sum(dim=1), b.square().sum(dim=1)
    return torch.addmm(square_b, a, b.T, alpha=-2).add_(square_a[:, None]).clamp_(min=0)
