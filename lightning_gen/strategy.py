"""Several processes: each optimizer's gradients are averaged once, when that optimizer steps.

Lightning's DDP wraps the whole module and all-reduces generator and discriminator at every backward, twice the
traffic that is needed, and it fails without `find_unused_parameters`. `GenerativeModule.update` knows exactly which
gradients a step uses, so no wrapper is needed.
"""

from __future__ import annotations

import torch
import torch.distributed
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn


class PerOptimizerDDP(DDPStrategy):
    """Data parallelism that reduces the gradients of one optimizer at a time, as one flat tensor for each dtype."""

    strategy_name = "per-optimizer-ddp"

    def configure_ddp(self) -> None:
        """All ranks start from rank 0's weights and buffers; nothing is wrapped."""
        assert self.model is not None
        for tensor in [*self.model.parameters(), *self.model.buffers()]:
            torch.distributed.broadcast(tensor.detach(), src=0)

    @torch.no_grad()
    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks. Called on every rank with the same parameters."""
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for parameter in parameters:
            assert parameter.grad is not None
            by_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for gradients in by_dtype.values():
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            torch.distributed.all_reduce(flat)
            flat /= self.world_size
            sizes = [gradient.numel() for gradient in gradients]
            for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
                gradient.copy_(mean.view_as(gradient))
