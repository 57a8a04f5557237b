"""Kernel distance between two sets of features: KID when the features are Inception's.

Bińkowski et al. 2018, "Demystifying MMD GANs" (arXiv:1801.01401), section 4: the unbiased estimate of the squared
maximum mean discrepancy (Gretton et al. 2012, equation 3) with the kernel k(x, y) = (x·y / D + 1)³.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.checks import as_pair

_STRIP = 512
"""Rows and columns of a product at a time: few enough that the half below a diagonal wastes little, and that memory
stays small."""


def kernel_distance(
    features_a: Tensor, features_b: Tensor, subsets: int = 100, subset_size: int = 1000, *, seed: int = 2020
) -> dict[str, float]:
    """Squared MMD between random subsets of two sets of features, its mean and deviation over the subsets.

    torch-fidelity's conventions: one NumPy RandomState(seed) draws, for each subset, rows of `a` and then rows of `b`,
    without replacement; the deviation has divisor `subsets`. Sums are float64.

    Args:
        features_a: (N, D) float, by habit the generated images.
        features_b: (M, D) float, by habit the reference.
        subsets: how many pairs of subsets.
        subset_size: rows of each subset, 2 <= subset_size <= min(N, M). It changes the deviation, not the target.
        seed: names the subsets.

    Returns:
        `{"mean", "std"}`; the estimate is unbiased, so near-identical sets give values on both sides of 0.

    Raises:
        TypeError, ValueError: not finite float matrices of one width.
        UserError: a subset larger than a set, or a meaningless number.
    """
    if subsets < 1 or subset_size < 2:
        raise UserError(f"the kernel distance needs subsets >= 1 and subset_size >= 2, not {subsets} and {subset_size}")
    a, b = as_pair(features_a, features_b, ("features_a", "features_b"))
    smaller = min(len(a), len(b))
    if smaller < subset_size:
        raise UserError(
            f"the kernel distance draws subsets of {subset_size} images, a set has only {smaller}: "
            f"use more images or a subset_size of at most {smaller} (which is then part of the score's protocol)"
        )
    rng = np.random.RandomState(seed)
    chosen = [
        (rng.choice(len(a), subset_size, replace=False), rng.choice(len(b), subset_size, replace=False))
        for _ in range(subsets)
    ]
    in_a, in_b = _members([rows for rows, _ in chosen], a), _members([rows for _, rows in chosen], b)
    within = _sums(a, a, in_a, in_a) + _sums(b, b, in_b, in_b)
    estimates = within / (subset_size * (subset_size - 1)) - 2 * _sums(a, b, in_a, in_b) / subset_size**2
    return {"mean": float(estimates.mean()), "std": float(estimates.std(correction=0))}


def _members(chosen: Sequence[NDArray[np.int64]], features: Tensor) -> Tensor:
    """Which rows of `features` (N, D) each subset holds, (subsets, N) bool."""
    members = torch.zeros(len(chosen), len(features), dtype=torch.bool)
    members.scatter_(1, torch.from_numpy(np.stack(chosen)), True)
    return members.to(features.device)


def _sums(x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
    """For each subset, the sum of k(x_i, y_j) over its pairs, without those of i = j where `x` is `y`: (subsets,).

    Subsets overlap: where all pairs of the two sets are fewer than those of all subsets together, each pair's kernel
    is computed once and counted for every subset that holds both.
    """
    if len(x) * len(y) <= int(in_x.sum()) * int(in_y[0].sum()):
        return _sums_of_members(x, y, in_x, in_y)
    sums = []
    for row_x, row_y in zip(in_x, in_y, strict=True):
        part = x[row_x]
        other = part if x is y else y[row_y]  # `_sums_of_members` knows a set by its identity
        all_x, all_y = (torch.ones(1, len(rows), dtype=torch.bool, device=x.device) for rows in (part, other))
        sums.append(_sums_of_members(part, other, all_x, all_y))
    return torch.cat(sums)


def _sums_of_members(x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor) -> Tensor:
    """`_sums` by way of every pair of `x` and `y`; of a set with itself half of them, the kernel is symmetric."""
    total = torch.zeros(len(in_x), dtype=torch.float64, device=x.device)
    for i in range(0, len(x), _STRIP):
        rows, rows_in = x[i : i + _STRIP].double(), in_x[:, i : i + _STRIP].double()
        for j in range(i if x is y else 0, len(y), _STRIP):
            kernel = (rows @ y[j : j + _STRIP].double().T).div_(x.shape[1]).add_(1).pow_(3)
            if x is y:
                kernel = 2 * kernel if j > i else kernel.triu_(1).mul_(2)
            total += torch.sum((rows_in @ kernel) * in_y[:, j : j + _STRIP], dim=1)
    return total
