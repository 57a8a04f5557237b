"""Averaged generators: the weights that samples are drawn from.

Only the generator is averaged, not the whole module, and decay is stated as a half-life in images, so it means the same
for every batch size (Karras et al. 2018, appendix A.1; the warm-up is that of the published code of StyleGAN2-ADA).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 0.05
"""The half-life is at most this share of the images seen, so an early average does not remember the initial weights.
The papers' own average is reached after twenty half-lives."""


def averaged_copy(network: nn.Module) -> nn.Module:
    """A copy of `network` that takes no gradient."""
    return copy.deepcopy(network).requires_grad_(False)


def decay(images: int, seen: int, halflife_kimg: float) -> float:
    """Weight that the average keeps in a step of `images` images, after `seen` images in all."""
    halflife = min(halflife_kimg * 1000, seen * WARM_UP)
    return 0.5 ** (images / halflife) if halflife > 0 else 0.0


class Follower:
    """Moves `average` towards `network`, once for each call of `follow`.

    The modules are looked up here: to find them takes longer than to move their weights. Their tensors are not, for a
    model may assign a buffer anew.
    """

    def __init__(self, average: nn.Module, network: nn.Module):
        self._average, self._network = list(average.modules()), list(network.modules())

    @torch.no_grad()
    def follow(self, keep: float) -> None:
        """average = keep * average + (1 - keep) * network, of weights. Buffers (batch-norm statistics, counters) are
        copied: averaged statistics would belong to no set of weights."""
        ours, theirs = (_tensors(module._parameters for module in part) for part in (self._average, self._network))
        torch._foreach_lerp_(ours, theirs, 1.0 - keep)
        ours, theirs = (_tensors(module._buffers for module in part) for part in (self._average, self._network))
        if ours:
            torch._foreach_copy_(ours, theirs)


def _tensors(groups: Iterable[Mapping[str, Tensor | None]]) -> list[Tensor]:
    """Each tensor once, also where modules share it."""
    found = {id(tensor): tensor for group in groups for tensor in group.values() if tensor is not None}
    return list(found.values())


class StandingStatistics:
    """Batch-norm statistics that belong to a network's present weights, gathered over forward passes for the purpose.

    The running averages of training trail behind the weights, and an averaged network has only those of the weights
    that it was averaged from. Brock et al. 2019 call these "standing statistics". They are gathered once for each state
    of the weights and kept here; the network's own buffers, which checkpoints hold, are not touched.
    """

    def __init__(self) -> None:
        self._state: tuple[Any, ...] = ()
        self._found: list[tuple[Tensor, Tensor]] = []

    @contextmanager
    def of(self, network: nn.Module, passes: Callable[[], Any], *key: Any) -> Iterator[None]:
        """Inside, the batch norms of `network` use the statistics that they see while `passes` runs it, each pass
        counting alike. Gathered anew where the weights or `key` have changed; fused optimizers change weights unseen,
        so where one steps in between, `key` must hold the clock. For a network in evaluation mode."""
        norms = _norms(network)
        own = [(norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum) for norm in norms]
        state = (*key, *((id(weight), weight._version) for weight in network.parameters()))
        try:
            if state != self._state:
                self._found = _gather(norms, passes)
                self._state = state
            for norm, (mean, var) in zip(norms, self._found, strict=True):
                norm.running_mean, norm.running_var = mean, var
            yield
        finally:
            for norm, kept in zip(norms, own, strict=True):
                norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum = kept

    @torch.no_grad()
    def settle(self, network: nn.Module, passes: Callable[[], Any]) -> None:
        """Write the statistics into the network's own buffers, for a network that will not be trained on."""
        norms = _norms(network)
        with self.of(network, passes):
            found = [(norm.running_mean, norm.running_var) for norm in norms]
        for norm, (mean, var) in zip(norms, found, strict=True):
            norm.running_mean, norm.running_var = mean, var


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def _gather(norms: list[nn.BatchNorm2d], passes: Callable[[], Any]) -> list[tuple[Tensor, Tensor]]:
    for norm in norms:
        assert norm.running_mean is not None
        norm.running_mean = torch.zeros_like(norm.running_mean)
        norm.running_var = torch.zeros_like(norm.running_mean)
        norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=norm.running_mean.device)
        norm.momentum = None  # an average in which every pass counts alike
        norm.train()
    try:
        passes()
    finally:
        for norm in norms:
            norm.eval()
    return [(norm.running_mean, norm.running_var) for norm in norms]  # type: ignore[misc]
