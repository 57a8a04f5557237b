"""Averaged generators: the weights that samples are drawn from.

Only the generator is averaged, not the whole module, and decay is stated as a half-life in images, so it means the
same for every batch size (Karras et al. 2018, section 6; Karras et al. 2020, appendix B for the warm-up).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

WARM_UP = 0.05
"""The half-life is at most this share of the images seen, so an early average does not remember the initial weights."""


def averaged_copy(network: nn.Module) -> nn.Module:
    """A copy of `network` that takes no gradient."""
    return copy.deepcopy(network).requires_grad_(False)


def decay(images: int, seen: int, halflife_kimg: float) -> float:
    """Weight that the average keeps in a step of `images` images, after `seen` images in all."""
    halflife = min(halflife_kimg * 1000, seen * WARM_UP)
    return 0.5 ** (images / halflife) if halflife > 0 else 0.0


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move the weights of `average` towards `network`: average = keep * average + (1 - keep) * network.

    Buffers (batch-norm statistics, counters) are copied: averaged statistics would belong to no set of weights.
    """
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(ours, theirs, 1.0 - keep)
    for mine, current in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(current)
