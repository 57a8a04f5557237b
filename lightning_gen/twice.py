"""Convolutions whose second derivatives are convolutions of the usual kinds.

PyTorch computes the second derivative of a convolution by its weights, which gradient penalties take, as a convolution
with a kernel as large as the image. On a CPU that is slow, and on processors with AMX oneDNN, which computes it, gets
it wrong in bf16 where a batch is small (even and below 16): the numbers have little or nothing to do with the right
ones, and there is no warning. Seen in PyTorch 2.13 and 2.14.

A convolution is linear in its input and in its weights. So it, its gradient by the input and its gradient by the
weights are three readings of one trilinear form, and each derivative of one of them is another one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode


class Geometry(NamedTuple):
    """What `torch.ops.aten.convolution` wants to know after input, weights and bias."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


class _Convolution(Function):
    """(input, weights) -> output."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, how: Geometry) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.how = how
        return torch.ops.aten.convolution(images, weight, bias, *how)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        by_input = _Gradient.apply(slope, weight, images, ctx.how, 0) if _asked(ctx, 0) else None
        by_weight = _Gradient.apply(slope, images, weight, ctx.how, 1) if _asked(ctx, 1) else None
        by_bias = slope.sum([0, *range(2, slope.ndim)]) if _asked(ctx, 2) else None
        return by_input, by_weight, by_bias, None


class _Gradient(Function):
    """(gradient by the output, weights) -> gradient by the input (place 0), or (gradient by the output, input) ->
    gradient by the weights (place 1); `like` is of the shape that comes out."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, other: Tensor, like: Tensor, how: Geometry, place: int) -> Tensor:
        ctx.save_for_backward(slope, other)
        ctx.how, ctx.place = how, place
        images, weight = (like, other) if place == 0 else (other, like)
        return _gradient(place, slope, images, weight, how)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        slope, other = ctx.saved_tensors
        images, weight = (given, other) if ctx.place == 0 else (other, given)
        by_slope = _Convolution.apply(images, weight, None, ctx.how) if _asked(ctx, 0) else None
        by_other = _Gradient.apply(slope, given, other, ctx.how, 1 - ctx.place) if _asked(ctx, 1) else None
        return by_slope, by_other, None, None, None


def _gradient(place: int, slope: Tensor, images: Tensor, weight: Tensor, how: Geometry) -> Tensor:
    """By the input (place 0) or by the weights (place 1)."""
    given = [slope, images, weight]
    if 1 < how.groups == images.shape[1]:  # of depthwise ones, dilated and in channels_last, oneDNN gets bf16 wrong too
        given = [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in given]
    which = [place == 0, place == 1, False]
    found: Tensor = torch.ops.aten.convolution_backward(*given, None, *how, which)[place]
    return found.to(slope.dtype)


def _asked(ctx: FunctionCtx, place: int) -> bool:
    """Whether this backward pass wants the gradient by that argument. A penalty's first one, by the images, has no use
    for those by the weights, and `needs_input_grad` tells only that somebody might. The engine counts tensors alone,
    so they come first."""
    node: Any = ctx
    if not node.needs_input_grad[place]:
        return False
    try:
        return bool(torch._C._will_engine_execute_node(node.next_functions[place][0]))
    except RuntimeError:  # it is for a leaf that `autograd.grad` names, of which the engine does not tell
        return True


class Convolutions(TorchFunctionMode):
    """Inside, the convolutions of batches are such ones, of any module and with or without autocast.

    Those of single images and inside the transformations of `torch.func` stay PyTorch's.
    """

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), options: dict[str, Any] | None = None
    ) -> Any:
        return CONVOLUTIONS.get(function, function)(*arguments, **(options or {}))


def _stand_in(plain: Callable[..., Tensor], dimensions: int, *after: str) -> Callable[..., Tensor]:
    """For one of PyTorch's functions, whose arguments after input, weights, bias, stride and padding are `after`."""
    names = ("input", "weight", "bias", "stride", "padding", *after)

    def convolution(*arguments: Any, **options: Any) -> Tensor:
        given = DEFAULTS | dict(zip(names, arguments, strict=False)) | options
        images, weight, bias = given["input"], given["weight"], given["bias"]
        strided = _each(given["stride"], dimensions) != [1] * dimensions
        named = isinstance(given["padding"], str)
        refused = named and (given["padding"] not in ("valid", "same") or (strided and given["padding"] == "same"))
        if refused or images.ndim != dimensions + 2 or torch._C._are_functorch_transforms_active():
            return plain(*arguments, **options)
        if named:
            images, given["padding"] = _padded(images, weight, given["padding"], given["dilation"])
        stride, padding, dilation, beyond = (
            _each(given[name], dimensions) for name in ("stride", "padding", "dilation", "output_padding")
        )
        how = Geometry(stride, padding, dilation, "output_padding" in after, beyond, given["groups"])
        device = images.device.type
        if torch.is_autocast_enabled(device):  # which knows PyTorch's own functions alone
            half = torch.get_autocast_dtype(device)
            images, weight, bias = (_cast(tensor, half) for tensor in (images, weight, bias))
        output: Tensor = _Convolution.apply(images, weight, bias, how)
        return output

    return convolution


DEFAULTS = {"bias": None, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}


def _each(value: Any, dimensions: int) -> list[int]:
    """A number for each dimension; one stands for all."""
    given = list(value) if isinstance(value, (tuple, list)) else [value]
    whole = [operator.index(number) for number in given]
    return whole * dimensions if len(whole) == 1 else whole


def _cast(tensor: Tensor | None, half: torch.dtype) -> Tensor | None:
    """As autocast does it, which leaves float64 alone."""
    return tensor if tensor is None or tensor.dtype == torch.float64 else tensor.to(half)


def _padded(images: Tensor, weight: Tensor, how: str, dilation: Any) -> tuple[Tensor, list[int]]:
    """Padding by its name, ``valid`` or ``same``: the images, one row or column more at their ends where the kernel
    wants more on one side than on the other, and the padding of both sides."""
    kernel = weight.shape[2:]
    if how == "valid":
        return images, [0] * len(kernel)
    missing = [step * (size - 1) for step, size in zip(_each(dilation, len(kernel)), kernel, strict=True)]
    odd = [amount for total in reversed(missing) for amount in (0, total % 2)]
    return F.pad(images, odd) if any(odd) else images, [total // 2 for total in missing]


CONVOLUTIONS: dict[Any, Callable[..., Tensor]] = {
    torch.conv1d: _stand_in(torch.conv1d, 1, "dilation", "groups"),
    torch.conv2d: _stand_in(torch.conv2d, 2, "dilation", "groups"),
    torch.conv3d: _stand_in(torch.conv3d, 3, "dilation", "groups"),
    torch.conv_transpose1d: _stand_in(torch.conv_transpose1d, 1, "output_padding", "groups", "dilation"),
    torch.conv_transpose2d: _stand_in(torch.conv_transpose2d, 2, "output_padding", "groups", "dilation"),
    torch.conv_transpose3d: _stand_in(torch.conv_transpose3d, 3, "output_padding", "groups", "dilation"),
}
"""What takes the place of PyTorch's functions, which `torch.nn` calls too."""
