"""How optimizers step, the same for every model: schedule, warm-up and clipping, as functions of the clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from lightning_gen.clock import Clock

if TYPE_CHECKING:
    from lightning_gen.module import GenerativeModule

FUSED_ON = ("cpu", "cuda")
"""Kinds of devices on which PyTorch 2.5 has the fused kernel."""


@dataclass(frozen=True)
class UpdateOptions:
    """What a run asks of every update of every optimizer.

    Args:
        lr_decay: Share of the budget, at its end, over which learning rates fall to 0; 0 keeps them.
        lr_warmup_kimg: Thousands of images over which learning rates rise from 0 at the start.
        max_norm: Largest norm of one optimizer's gradient; a longer one is scaled down to it. 0 clips nothing.
    """

    lr_decay: ClosedUnitInterval = 0.0
    lr_warmup_kimg: NonNegativeFloat = 0.0
    max_norm: NonNegativeFloat = 0.0

    def rate(self, clock: Clock) -> float:
        """What learning rates are multiplied by at this moment of the run."""
        warm = min(1.0, (clock.images + 1) / (1000 * self.lr_warmup_kimg)) if self.lr_warmup_kimg else 1.0
        return warm * clock.falling(self.lr_decay)


class Update:
    """One optimizer's update while it is being made: `backward` once or several times, then one step."""

    def __init__(self, module: GenerativeModule):
        self._module = module
        self.grad_norm: Tensor
        """Norm of the gradient before clipping, a scalar tensor; known when the block has ended."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`. Call it once for every micro-batch to accumulate."""
        self._module.manual_backward(loss)


def fuse(optimizers: Iterable[Optimizer]) -> None:
    """Let Adam take its step in one kernel: a third to a fifth of the time on a CPU, where PyTorch goes weight by
    weight unless it is asked.

    The numbers differ from the other way's by rounding, so optimizers that have stepped before, as in a run that an
    older version began, go on as they were.
    """
    for optimizer in optimizers:
        if type(optimizer) not in (Adam, AdamW) or optimizer.state:
            continue
        for group in optimizer.param_groups:
            chosen = any(group[name] for name in ("foreach", "capturable", "differentiable")) or group["fused"] is False
            if not chosen and all(p.device.type in FUSED_ON and p.is_floating_point() for p in group["params"]):
                group["fused"] = True
