"""Inception score: Salimans et al. 2016, "Improved Techniques for Training GANs" (arXiv:1606.03498), section 4."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.checks import as_rows


def inception_score(logits: Tensor, splits: int = 10, *, seed: int | None = 2020) -> dict[str, float]:
    """exp(E KL(p(y|x) || p(y))), averaged over `splits` parts of the set.

    torch-fidelity's conventions: the rows are shuffled by NumPy's RandomState(seed) (files come sorted by class, and a
    part of one class has no diversity; None keeps the order), part i is rows i·N // splits up to (i + 1)·N // splits,
    and the deviation is over the parts, divisor `splits`.

    Args:
        logits: (N, K) float, N >= splits.
        splits: number of parts.
        seed: names the order.

    Returns:
        `{"mean", "std"}`, between 1 (all pictures alike, or all undecided) and K (each certain, all classes equally).

    Raises:
        TypeError, ValueError: not a finite float matrix.
        UserError: fewer images than splits.
    """
    if splits < 1:
        raise UserError(f"splits must be at least 1, not {splits}")
    rows = as_rows(logits, "logits", at_least=splits)
    n = len(rows)
    if seed is not None:
        order = np.random.RandomState(seed).permutation(n)
        rows = rows[torch.from_numpy(order).to(rows.device)]
    log_p = rows.log_softmax(dim=1)
    scores = []
    for part in range(splits):
        chunk = log_p[part * n // splits : (part + 1) * n // splits]
        # The log of the mean of p, without leaving the logs: a class that nobody chose must not become 0 · log 0.
        log_q = chunk.logsumexp(dim=0) - math.log(len(chunk))
        scores.append(float((chunk.exp() * (chunk - log_q)).sum(dim=1).mean().exp()))
    return {"mean": float(np.mean(scores)), "std": float(np.std(scores))}
