"""How optimizers step, the same for every model: schedule and warm-up by the clock, clipping, accumulation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveInt
from torch import Tensor
from torch.nn.utils.parametrize import cached
from torch.optim import Adam, AdamW, Optimizer

from lightning_gen.clock import Clock
from lightning_gen.errors import UserError

if TYPE_CHECKING:
    from lightning_gen.module import GenerativeModule

FUSED_ON = ("cpu", "cuda")
"""Kinds of devices on which PyTorch 2.5 has the fused kernel."""

WHOLE = "{} takes its batch through the networks as a whole: --update.accumulate 1"
"""What is said of a model that cannot accumulate."""


@dataclass(frozen=True)
class UpdateOptions:
    """What a run asks of every update of every optimizer.

    Args:
        lr_decay: Share of the budget, at its end, over which learning rates fall to 0; 0 keeps them.
        lr_warmup_kimg: Thousands of images over which learning rates rise from 0 at the start.
        max_norm: Largest norm of one optimizer's gradient; a longer one is scaled down to it. 0 clips nothing.
        accumulate: Parts in which each update's batch goes through the networks, one after the other: less memory.
        recompute: Keep no activations inside the model's blocks, but compute them again on the way back: less memory.
        compile: Compile the networks (torch.compile) where no penalty differentiates them twice.
    """

    lr_decay: ClosedUnitInterval = 0.0
    lr_warmup_kimg: NonNegativeFloat = 0.0
    max_norm: NonNegativeFloat = 0.0
    accumulate: PositiveInt = 1
    recompute: bool = False
    compile: bool = False

    def check(self, model: GenerativeModule) -> None:
        """What can be known before the first step.

        Raises:
            UserError: the model cannot do what is asked.
        """
        name = type(model).__name__
        if self.accumulate > 1 and model.automatic_optimization:
            raise UserError(WHOLE.format(name))
        if self.recompute and not model.recomputed:
            raise UserError(f"{name} names no blocks that could be computed again: --update.recompute false")

    def rate(self, clock: Clock) -> float:
        """What learning rates are multiplied by at this moment of the run."""
        warm = min(1.0, (clock.images + 1) / (1000 * self.lr_warmup_kimg)) if self.lr_warmup_kimg else 1.0
        return warm * clock.falling(self.lr_decay)


class Update:
    """One optimizer's update while it is being made: `backward` once or several times, then one step."""

    def __init__(self, module: GenerativeModule):
        self._module = module
        self._share = 1.0
        self._in_parts = False
        self.grad_norm: Tensor
        """Norm of the gradient before clipping, a scalar tensor; known when the block has ended."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`; inside `parts`, of this part's share in the mean over all rows."""
        # outside of autocast, which has nothing to add: the operations of the way back take the precision of those they
        # belong to, and each would ask whether it must be cast
        with torch.autocast(loss.device.type, enabled=False):
            self._module.manual_backward(loss if self._share == 1 else self._share * loss)

    def parts(self, *tensors: Tensor) -> Iterator[Any]:
        """The rows of a batch in as many parts as `accumulate` says, one after the other: a tensor, or a tuple of them.

        The weights stay what they are, so the gradients add up to those of the whole batch, but for statistics over the
        rows (batch norm, minibatch deviation, running means), which are those of a part. What spectral norm and other
        parametrizations make of a weight is computed once in a part.
        """
        self._in_parts = True
        split = [tensor.tensor_split(self._module.update_options.accumulate) for tensor in tensors]
        for part in zip(*split, strict=True):
            self._share = len(part[0]) / len(tensors[0])
            with cached():
                yield part if len(part) > 1 else part[0]
        self._share = 1.0

    def end(self) -> None:
        """The gradients are there.

        Raises:
            UserError: they should have come in parts, and the model took its batch at once.
        """
        if self._module.update_options.accumulate > 1 and not self._in_parts:
            raise UserError(WHOLE.format(type(self._module).__name__))


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
