"""How networks are run: precision, memory format, casts, freed memory, activations computed again, compiled code.

Of these only the precision moves the numbers by more than rounding.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import cache, partial, wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from lightning_gen import twice

if TYPE_CHECKING:
    from lightning_gen.module import GenerativeModule


BF16_UNITS = ("amx_bf16", "avx512_bf16")
"""Of CPUs, as PyTorch calls them: by one thread the presets `quick` are faster in bf16 on either, by a tenth to a half
and more (`benchmarks/speed/README.md`)."""


def fast_precision(accelerator: str) -> str:
    """bf16 for the matrix products where the CPU has units for it, else float32.

    Weights, optimizers, losses and sampling stay in float32 either way.
    """
    units: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if accelerator == "cpu" and any(map(units.get, BF16_UNITS)) else "32-true"


LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of a tensor's dimensions."""


KNOWN = ("torch", "torchvision", "torchmetrics", "pytorch_lightning", "lightning_fabric", "lightning_gen")
"""Packages whose code takes images in any layout."""

INDIFFERENT = ("__init__", "configure_optimizers")
"""Methods that see no images."""


def takes_any_layout(model: GenerativeModule) -> bool:
    """Whether `channels_last` breaks nothing: images in it cannot be `view`ed, which is how many a network of others
    flattens them, and only strangers know of their code."""
    return model.any_layout or not any(
        isinstance(part, FunctionType) and name not in INDIFFERENT
        for module in model.modules()
        for cls in type(module).__mro__
        if cls.__module__.partition(".")[0] not in KNOWN
        for name, part in vars(cls).items()
    )


def channels_last(model: nn.Module) -> None:
    """Convolutions read this layout faster, on the CPU too; the numbers are the same tensors'.

    Networks have their weights in it, and are handed images in it: a first convolution of 1x1, to which both layouts of
    its weights are one, would else keep the images' own, and what meets it on the way back takes twenty times as long.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = _laid_out(tensor.data, LAYOUTS)
    for network in networks(model):
        # frames (B, K, C, H, W) are no volumes to a network that convolves images
        kinds = {parameter.ndim for parameter in network.parameters()} & LAYOUTS.keys()
        if kinds:
            network.register_forward_pre_hook(partial(_lay_out, kinds))


def _lay_out(kinds: Collection[int], network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_laid_out(value, kinds) for value in inputs)


def _laid_out(value: Any, kinds: Collection[int]) -> Any:
    images = isinstance(value, Tensor) and value.ndim in kinds
    return value.contiguous(memory_format=LAYOUTS[value.ndim]) if images else value


def networks(model: nn.Module) -> Iterator[nn.Module]:
    """What a model calls: its networks, those in lists and dictionaries too."""
    for child in model.children():
        if type(child).forward is nn.Module.forward:
            yield from networks(child)
        else:
            yield child


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


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As glibc's malloc.h numbers them."""


def keep_freed_memory() -> None:
    """What one pass frees is the next one's, for the rest of this process.

    glibc would give it back to the system when it is more than twice the largest piece that was, and the system hands
    it out again page by page, zeroed: a seventh of a step of `progan`'s, a fifth of what scores take. Pieces beyond
    32 MB come and go, as they do without this. Who sets the allocator's variables has chosen.
    """
    if not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        with suppress(AttributeError, OSError, TypeError):  # no glibc
            choose = ctypes.CDLL(None).mallopt
            choose(M_TRIM_THRESHOLD, 1 << 30)
            choose(M_MMAP_THRESHOLD, 32 << 20)


def recompute(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Let all blocks of these kinds keep their input alone and compute the rest again on the way back.

    Blocks with batch norm, which would count each batch twice, are left as they are; others must not change buffers.
    """
    for block in model.modules():
        if isinstance(block, kinds) and not any(isinstance(module, _BatchNorm) for module in block.modules()):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=_both_times)


def _both_times() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Around a block's first pass, which is inside of whatever is around it, and around the second, which is not: both
    have to keep the same tensors."""
    return nullcontext(), _convolutions(_twice.get())


def compile(network: nn.Module) -> None:
    """Compile the network for training, where it is differentiated once.

    The compiler refuses double backward, so what is `differentiated_twice` is not compiled; nor is a call without
    gradients, so that samples stay what they are. A network with batch norm is not compiled any more once it was inside
    a penalty: compiled calls write over the running statistics that the penalty's graph still holds.
    """
    plain: Callable[..., Any] = network.forward
    fast = torch.compile(plain)
    normalised = any(isinstance(module, _BatchNorm) for module in network.modules())

    @wraps(plain)
    def forward(*inputs: Any, **options: Any) -> Any:
        nonlocal fast
        if normalised and _twice.get():
            fast = plain
        once = torch.is_grad_enabled() and not _twice.get()
        return (fast if once else plain)(*inputs, **options)

    network.forward = forward


def follow_penalties(network: nn.Module, device_type: str) -> None:
    """Let calls of the network that may be inside a penalty be `differentiated_twice`."""
    network.forward = partial(_perhaps_twice, network, network.forward, device_type)


def _perhaps_twice(
    network: nn.Module, forward: Callable[..., Any], device_type: str, *inputs: Any, **options: Any
) -> Any:
    if not _may_be_penalised(network, inputs, options):
        return forward(*inputs, **options)
    with differentiated_twice(device_type):
        return forward(*inputs, **options)


_twice: ContextVar[str] = ContextVar("device of what is differentiated twice", default="")


@contextmanager
def differentiated_twice(device_type: str) -> Iterator[None]:
    """Around a pass that a penalty differentiates twice: nothing in it is compiled, and in bf16 on a CPU its
    convolutions are `twice.Convolutions`."""
    token = _twice.set(device_type)
    try:
        with _convolutions(device_type):
            yield
    finally:
        _twice.reset(token)


def _convolutions(device_type: str) -> AbstractContextManager[Any]:
    """In float32 PyTorch's own are right and about as fast."""
    rounded = device_type == "cpu" and torch.is_autocast_enabled("cpu")
    return twice.Convolutions() if rounded else nullcontext()


def _may_be_penalised(network: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether this call may be differentiated twice: its weights take gradients, and so does an input that is no other
    weights' output."""
    given = [value for value in (*inputs, *options.values()) if isinstance(value, Tensor) and value.requires_grad]
    learns = bool(given) and any(parameter.requires_grad for parameter in network.parameters())
    return learns and any(map(_leads_to_an_input, given))


def _leads_to_an_input(value: Tensor) -> bool:
    """Whether the tensor is, or was computed from, one that takes gradients and is no weight."""
    if value.grad_fn is None:
        return not isinstance(value, nn.Parameter)
    waiting: list[Any] = [value.grad_fn]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None and not isinstance(leaf, nn.Parameter):
            return True
        new = {before for before, _ in node.next_functions if before is not None} - seen
        seen |= new
        waiting += new
    return False
