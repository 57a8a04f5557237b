"""How networks are run: precision, memory format, casts, activations computed again, compiled code.

Of these only the precision moves the numbers by more than rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def fast_precision(accelerator: str) -> str:
    """bf16 for the matrix products where the CPU has units for it (about twice as fast), else float32.

    Weights, optimizers, losses, penalties and sampling stay in float32 either way.
    """
    units: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if accelerator == "cpu" and units.get("amx_bf16") else "32-true"


def channels_last(model: nn.Module) -> None:
    """Convolutions read this layout faster, on the CPU too; the numbers are the same tensors'."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim in layouts:
            tensor.data = tensor.data.contiguous(memory_format=layouts[tensor.ndim])


@contextmanager
def kept_casts(device_type: str) -> Iterator[None]:
    """Under autocast, cast a weight once for the whole block instead of each time it is used, as Lightning has it.

    The weights must not change inside.
    """
    if not torch.is_autocast_enabled(device_type) or not _casts_keep_gradients():
        yield
        return
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(True)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_cache_enabled(before)


@cache
def _casts_keep_gradients() -> bool:
    """Whether a weight that is first used without gradients has them at its next use; older PyTorch loses them."""
    weight, x = nn.Parameter(torch.ones(1, 1)), torch.ones(1, 1)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=True):
        with torch.no_grad():
            x @ weight
        return (x @ weight).requires_grad


def recompute(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Let all blocks of these kinds keep their input alone and compute the rest again on the way back.

    Blocks with batch norm, which would count each batch twice, are left as they are; others must not change buffers.
    """
    for block in model.modules():
        if isinstance(block, kinds) and not any(isinstance(module, _BatchNorm) for module in block.modules()):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile(network: nn.Module) -> None:
    """Compile the network for training, where it is differentiated once.

    The compiler refuses double backward. A network whose weights and whose input both take gradients may be inside a
    penalty, so that call is not compiled; nor is one without gradients, so that samples stay what they are. A network
    with batch norm is not compiled any more once it was inside a penalty: compiled calls write over the running
    statistics that the penalty's graph still holds.
    """
    plain: Callable[..., Any] = network.forward
    fast = torch.compile(plain)
    normalised = any(isinstance(module, _BatchNorm) for module in network.modules())

    @wraps(plain)
    def forward(*inputs: Any, **options: Any) -> Any:
        nonlocal fast
        learns = any(parameter.requires_grad for parameter in network.parameters())
        follows = any(isinstance(value, Tensor) and value.requires_grad for value in (*inputs, *options.values()))
        if normalised and learns and follows:
            fast = plain
        once = torch.is_grad_enabled() and not (learns and follows)
        return (fast if once else plain)(*inputs, **options)

    network.forward = forward
