"""Several processes: each optimizer's gradients are averaged once, when that optimizer steps.

Lightning's DDP wraps the whole module and all-reduces generator and discriminator at every backward, twice the
traffic that is needed, and it fails without `find_unused_parameters`. `GenerativeModule.update` knows exactly which
gradients a step uses, so no wrapper is needed. Nor does it broadcast buffers: the module has the ranks' batch-norm
statistics averaged.
"""

from __future__ import annotations

import torch
import torch.distributed
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor


class PerOptimizerDDP(DDPStrategy):
    """Data parallelism that reduces the gradients of one optimizer at a time, as one flat tensor for each dtype."""

    strategy_name = "per-optimizer-ddp"

    def configure_ddp(self) -> None:
        """All ranks start from rank 0's weights and buffers; nothing is wrapped."""
        assert self.model is not None
        for tensor in [*self.model.parameters(), *self.model.buffers()]:
            torch.distributed.broadcast(tensor.detach(), src=0)

    @torch.no_grad()
    def average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks. Called on every rank with tensors of the same shapes."""
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for alike in by_dtype.values():
            flat = torch.cat([tensor.flatten() for tensor in alike])
            torch.distributed.all_reduce(flat)
            flat /= self.world_size
            for tensor, mean in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(mean.view_as(tensor))
