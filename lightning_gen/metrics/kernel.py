"""Kernel distance between two sets of features: KID when the features are Inception's.

Bińkowski et al. 2018, "Demystifying MMD GANs" (arXiv:1801.01401), section 4: the unbiased estimate of the squared
maximum mean discrepancy (Gretton et al. 2012, equation 3) with the kernel k(x, y) = (x·y / D + 1)³.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.checks import as_pair

_STRIP = 256
"""Rows of a product at a time where only the half above the diagonal is wanted: few enough to waste little of it."""


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
    estimates = []
    for _ in range(subsets):
        chosen_a = torch.from_numpy(rng.choice(len(a), subset_size, replace=False))
        chosen_b = torch.from_numpy(rng.choice(len(b), subset_size, replace=False))
        estimates.append(_squared_mmd(a[chosen_a.to(a.device)].double(), b[chosen_b.to(b.device)].double()))
    return {"mean": float(np.mean(estimates)), "std": float(np.std(estimates))}


def _squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate for x, y (m, D) float64: the diagonals of k(x, x) and k(y, y) are left out."""
    m = len(x)
    within = (_sum_of_pairs(x) + _sum_of_pairs(y)) / (m * (m - 1))
    return float(within - 2 * _kernel(x, y).mean())


def _sum_of_pairs(x: Tensor) -> Tensor:
    """Sum of k(x_i, x_j) over i != j: twice that over i < j, whose products are half the work."""
    total = x.new_zeros(())
    for start in range(0, len(x), _STRIP):
        strip = _kernel(x[start : start + _STRIP], x[start:])
        total += strip.triu_(1).sum()
    return 2 * total


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x·y / D + 1)³ for all pairs, (m, n)."""
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)
