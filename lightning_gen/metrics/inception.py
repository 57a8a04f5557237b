"""Inception score: Salimans et al. 2016, "Improved Techniques for Training GANs" (arXiv:1606.03498), section 4."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.checks import AT_ONCE, as_rows


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
    order = torch.arange(n) if seed is None else torch.from_numpy(np.random.RandomState(seed).permutation(n))
    order = order.to(rows.device)
    scores = [_score(rows, order[part * n // splits : (part + 1) * n // splits]) for part in range(splits)]
    return {"mean": float(np.mean(scores)), "std": float(np.std(scores))}


def _score(logits: Tensor, chosen: Tensor) -> float:
    """exp(H(E p) - E H(p)), H the entropy: the mean divergence from the mean, in one reading of the chosen rows."""
    mean = torch.zeros(logits.shape[1], dtype=torch.float64, device=logits.device)
    negative_entropy = torch.zeros_like(mean)
    for places in chosen.split(AT_ONCE):
        log_p = logits[places].double().log_softmax(dim=1)
        p = log_p.exp()
        mean += p.sum(dim=0)
        negative_entropy += p.mul_(log_p).sum(dim=0)  # -1e5 · 0, never -inf · 0: finite logits have finite log p
    mean /= len(chosen)
    # entr(0) = 0: a class that nobody chose counts for nothing
    return float((torch.special.entr(mean) + negative_entropy / len(chosen)).sum().exp())
