"""Precision, recall, density and coverage from nearest neighbours in feature space.

Precision and recall: Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric" (arXiv:1904.06991), section 2.
Density and coverage: Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics" (arXiv:2002.09797), section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.checks import as_pair

_AT_ONCE = 1 << 24
"""Distances in memory at a time: 128 MiB of float64."""


def prdc(real: Tensor, fake: Tensor, k: int = 3) -> dict[str, float]:
    """Share of fakes among the reals (precision, density) and of reals among the fakes (recall, coverage).

    A ball around each picture reaches its k-th nearest neighbour in its own set, itself not counted. Precision is the
    share of fakes inside some real ball, recall the share of reals inside some fake ball, density the mean number of
    real balls around a fake over k, coverage the share of real balls that hold a fake. Balls are closed, as in
    torch-fidelity; k is 3 there and in Kynkäänniemi et al., 5 in the experiments of Naeem et al.

    Args:
        real: features (N, D) float.
        fake: features (M, D) float.
        k: which neighbour, 1 <= k < min(N, M).

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
    fake, real = fake - real[0], real - real[0]
    real_reach, fake_reach = _reach(real, k), _reach(fake, k)

    around = torch.zeros(len(fake), dtype=torch.float64, device=real.device)
    real_inside = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    real_holds = torch.zeros_like(real_inside)
    for rows, distances in _squared_distances(fake, real):
        in_real_balls = distances <= real_reach
        around[rows] = in_real_balls.sum(dim=1).double()
        real_holds |= in_real_balls.any(dim=0)
        real_inside |= (distances <= fake_reach[rows, None]).any(dim=0)
    return {
        "precision": float((around > 0).double().mean()),
        "recall": float(real_inside.double().mean()),
        "density": float(around.mean() / k),
        "coverage": float(real_holds.double().mean()),
    }


def _reach(features: Tensor, k: int) -> Tensor:
    """Squared distance of each row's k-th nearest other row, (N,), a rounding error wider.

    Without that, a picture exactly on the sphere (the k-th neighbour itself, a copy in the other set) would be in or
    out by the chance of the order in which a matrix product adds.
    """
    reach = torch.empty(len(features), dtype=torch.float64, device=features.device)
    for rows, distances in _squared_distances(features, features):
        reach[rows] = distances.kthvalue(k + 1, dim=1).values  # the first is the row itself
    return reach * (1 + 1e-9) + 1e-14 * features.square().sum(dim=1).max()


def _squared_distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances from some rows of `a` to all of `b`, part after part: which rows, (rows, len(b))."""
    step = max(1, _AT_ONCE // len(b))
    square_a, square_b = a.square().sum(dim=1), b.square().sum(dim=1)
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        yield rows, (square_a[rows, None] + square_b - 2 * a[rows] @ b.T).clamp_(min=0)
