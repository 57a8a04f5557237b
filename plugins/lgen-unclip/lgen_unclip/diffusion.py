"""Diffusion as pure functions: schedules, the two directions of the process, and samplers.

Ho et al. 2020, https://arxiv.org/abs/2006.11239 (DDPM); Song et al. 2021, https://arxiv.org/abs/2010.02502 (DDIM);
Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672 (cosine schedule). A schedule is the tensor of alpha-bar at the
times 0 .. T, float64, alpha-bar(0) = 1: what is left of x_0's variance after t steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

Name = Literal["cosine", "linear"]
Sampler = Literal["ddpm", "ddim"]


def cosine(steps: int, offset: float = 0.008, most: float = 0.999) -> Tensor:
    """(steps + 1,). Nichol & Dhariwal, eq. 17; one step adds `most` noise at most."""
    curve = torch.cos((torch.linspace(0, 1, steps + 1, dtype=torch.float64) + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = (1 - curve[1:] / curve[:-1]).clamp(max=most)
    return _of_betas(beta)


def linear(steps: int) -> Tensor:
    """(steps + 1,). Ho et al., section 4: betas from 1e-4 to 0.02 at 1,000 steps, for other numbers in proportion."""
    scale = 1000 / steps
    return _of_betas(torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64).clamp(max=0.999))


def _of_betas(beta: Tensor) -> Tensor:
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, 0)])


def schedule(name: Name, steps: int) -> Tensor:
    """By its name."""
    return {"cosine": cosine, "linear": linear}[name](steps)


def at(alpha_bar: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """alpha-bar of the times `t` (B,), to be multiplied with `like` (B, ...)."""
    return alpha_bar.to(like.device)[t].to(like.dtype).view(-1, *[1] * (like.ndim - 1))


def noised(x0: Tensor, noise: Tensor, a: Tensor) -> Tensor:
    """x_t of q(x_t | x_0), Ho et al., eq. 4; `a` is alpha-bar(t)."""
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def velocity(x0: Tensor, noise: Tensor, a: Tensor) -> Tensor:
    """What a network predicts that shall be as good at all times: Salimans & Ho 2022, section 4."""
    return a.sqrt() * noise - (1 - a).sqrt() * x0


def start_of(x: Tensor, v: Tensor, a: Tensor) -> Tensor:
    """x_0 of x_t and its velocity."""
    return a.sqrt() * x - (1 - a).sqrt() * v


def posterior(x: Tensor, x0: Tensor, a: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x_0) for s < t, Ho et al., eqs. 6 and 7; `before` is alpha-bar(s)."""
    kept = a / before  # of alpha, from s to t
    mean = before.sqrt() * (1 - kept) / (1 - a) * x0 + kept.sqrt() * (1 - before) / (1 - a) * x
    return mean, (1 - before) / (1 - a) * (1 - kept)


def ddim_step(x: Tensor, x0: Tensor, a: Tensor, before: Tensor) -> Tensor:
    """x_s of x_t for s < t without noise, Song et al., eq. 12 with sigma = 0."""
    noise = (x - a.sqrt() * x0) / (1 - a).sqrt()
    return noised(x0, noise, before)


def jumps(total: int, steps: int) -> Iterator[tuple[int, int]]:
    """The pairs (t, s) of `steps` about equal jumps from `total` down to 0; fewer where `total` has not as many."""
    stops = torch.linspace(total, 0, min(steps, total) + 1).round().int().tolist()
    yield from itertools.pairwise(stops)


def sample(
    denoise: Callable[[Tensor, int], Tensor],
    x: Tensor,
    alpha_bar: Tensor,
    steps: int,
    sampler: Sampler = "ddim",
    fresh: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """x_0 from pure noise `x` in `steps` jumps.

    Args:
        denoise: `denoise(x_t, t)` guesses x_0.
        x: Standard normal, what the process ends in.
        alpha_bar: The schedule.
        steps: How many times `denoise` is asked.
        sampler: ``ddim`` adds no noise, ``ddpm`` draws from the posterior.
        fresh: `fresh(t)` is the noise that ``ddpm`` adds where it jumps from t.
    """
    for t, s in jumps(len(alpha_bar) - 1, steps):
        a, before = (alpha_bar[i].to(x.device, x.dtype) for i in (t, s))
        x0 = denoise(x, t)
        if sampler == "ddim":
            x = ddim_step(x, x0, a, before)
        else:
            assert fresh is not None, "ddpm draws noise at each step"
            mean, variance = posterior(x, x0, a, before)
            x = mean + variance.sqrt() * fresh(t) if s > 0 else mean
    return x
