"""Residual blocks of the GANs from Gulrajani et al. 2017 to Brock et al. 2019, and what goes into them.

Each block takes `make`, which finishes a new layer: its initialisation and, where the paper has it, spectral norm. The
order matters: the power iteration starts from the weights that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

Make = Callable[..., Any]
"""`make(layer, gain=1.0)`: the layer, initialised, and normalised where the model does so."""

RELU_GAIN = math.sqrt(2)


def glorot(layer: Any, gain: float = 1.0) -> Any:
    """Uniform weights of Glorot & Bengio 2010, zero bias: what the original codes of WGAN-GP and SNGAN begin with."""
    nn.init.xavier_uniform_(layer.weight, gain)
    return _zero_bias(layer)


def spectral_glorot(layer: Any, gain: float = 1.0) -> Any:
    """As `glorot`, and the weight is divided by its largest singular value. Miyato et al. 2018, equation 8."""
    return parametrizations.spectral_norm(glorot(layer, gain))


class Gain(nn.Module):
    """A learned factor of a weight that was divided by its largest singular value: Miyato et al. 2018, appendix E."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, weight: Tensor) -> Tensor:
        """Any shape, to the same."""
        return weight * self.gain


def gained_glorot(layer: Any, gain: float = 1.0) -> Any:
    """As `spectral_glorot`, with a factor in front that is learned, from 1: not the weights' size but their direction
    is normalised, and a penalty has to bound the slope."""
    layer = spectral_glorot(layer, gain)
    parametrize.register_parametrization(layer, "weight", Gain())
    return layer


def orthogonal(layer: Any, gain: float = 1.0) -> Any:
    """Orthogonal weights (Saxe et al. 2014), zero bias."""
    nn.init.orthogonal_(layer.weight, gain)
    return _zero_bias(layer)


def _zero_bias(layer: Any) -> Any:
    """The layer, whose bias begins at 0 where it has one."""
    if getattr(layer, "bias", None) is not None:
        nn.init.zeros_(layer.bias)
    return layer


def spectral_orthogonal(layer: Any, gain: float = 1.0) -> Any:
    """Orthogonal weights under spectral norm, to which a gain means nothing. Brock et al. 2019."""
    return parametrizations.spectral_norm(orthogonal(layer))


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose scale and shift depend on a condition: a label or a vector. Dumoulin et al. 2017, section 2.2.

    Args:
        channels: Of the feature maps.
        affine: Makes a layer from the condition to (B, channels); it is called for the scale, which counts from 1,
            and for the shift.
    """

    def __init__(self, channels: int, affine: Callable[[], nn.Module]):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = affine(), affine()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W) and the condition of each image, (B, ...), to the same shape."""
        # as precise as the maps: under autocast a float32 scale would lift them, and all up to the next layer, to it
        scale, shift = (affine(condition)[:, :, None, None].to(x.dtype) for affine in (self.scale, self.shift))
        return self.norm(x) * (1 + scale) + shift


def class_norm(num_classes: int) -> Callable[[int], ConditionalBatchNorm2d]:
    """`norm(channels)` for blocks whose scales and shifts are looked up by class; they start at 1 and 0."""

    def table(channels: int) -> nn.Embedding:
        found = nn.Embedding(num_classes, channels)
        nn.init.zeros_(found.weight)
        return found

    return lambda channels: ConditionalBatchNorm2d(channels, lambda: table(channels))


def class_groups(generator: nn.Module, lr: float, rate: float) -> list[dict[str, Any]]:
    """An optimizer's groups of a generator with `class_norm`, whose tables learn `rate` times as fast as the rest: an
    update moves only the rows of its classes, and no class learns from another."""
    tables = [module.weight for module in generator.modules() if isinstance(module, nn.Embedding)]
    known = set(map(id, tables))
    others = [parameter for parameter in generator.parameters() if id(parameter) not in known]
    return [{"params": others, "lr": lr}, {"params": tables, "lr": rate * lr}]


class SelfAttention(nn.Module):
    """Every place looks at every other; `gamma` lets it in, from 0. Zhang et al. 2019, section 3, equations 1 to 3.

    As in its published code, keys and values are max-pooled to a quarter of the places, values have half the channels
    and no layer has a bias. (B, C, H, W) to the same shape; H and W even.
    """

    def __init__(self, channels: int, make: Make):
        super().__init__()
        few, half = max(1, channels // 8), max(1, channels // 2)
        self.query = make(nn.Conv2d(channels, few, 1, bias=False))
        self.key = make(nn.Conv2d(channels, few, 1, bias=False))
        self.value = make(nn.Conv2d(channels, half, 1, bias=False))
        self.output = make(nn.Conv2d(half, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """x + gamma * output(softmax(query key^T) value)."""
        found = (self.query(x), F.max_pool2d(self.key(x), 2), F.max_pool2d(self.value(x), 2))
        query, key, value = (maps.flatten(2) for maps in found)
        # Written out: PyTorch's fused attention has no second derivative, which gradient penalties take. In float32:
        # where attention is sharp, softmax's is a difference of nearly equal numbers, of which bf16 leaves nothing.
        precise = torch.promote_types(query.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            weights = torch.softmax(query.mT.to(precise) @ key.to(precise), dim=2).to(value.dtype)
        seen = (weights @ value.mT).mT  # as (value @ weights.mT), but channels last, which is the layout of x
        return x + self.gamma * self.output(seen.unflatten(2, x.shape[2:]))


class GeneratorBlock(nn.Module):
    """norm, ReLU, nearest enlargement, convolution, norm, ReLU, convolution, beside an enlarged 1x1 convolution.

    (B, in, H, W) -> (B, out, 2H, 2W). Gulrajani et al. 2017, appendix F; Miyato et al. 2018, figure 8.

    Args:
        in_channels: Feature maps that come in.
        out_channels: Feature maps of both convolutions.
        make: Finishes each layer.
        norm: Makes the norm of so many channels; `forward` hands it the condition, if there is one.
    """

    def __init__(self, in_channels: int, out_channels: int, make: Make, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.norm1, self.norm2 = norm(in_channels), norm(out_channels)
        self.conv1 = make(nn.Conv2d(in_channels, out_channels, 3, padding=1), RELU_GAIN)
        self.conv2 = make(nn.Conv2d(out_channels, out_channels, 3, padding=1), RELU_GAIN)
        self.shortcut = make(nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        """No `condition` for a plain norm. The shortcut is enlarged last: the same numbers, a quarter of the work."""
        h = self.conv1(twice(F.relu(self.norm1(x, *condition))))
        h = self.conv2(F.relu(self.norm2(h, *condition)))
        return h + twice(self.shortcut(x))


def twice(x: Tensor) -> Tensor:
    """Every pixel becomes four."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class DiscriminatorBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution, mean pooling, beside a pooled 1x1 convolution; no norm.

    (B, in, H, W) -> (B, out, H/2, W/2), or the same size. Where neither size nor channels change the shortcut is the
    input itself. Gulrajani et al. 2017, appendix F; Miyato et al. 2018, figure 8.

    Args:
        in_channels: Feature maps that come in.
        out_channels: Feature maps that go out.
        make: Finishes each layer.
        hidden: Feature maps between the convolutions.
        halve: Whether the block pools.
        first: Whether it sees the image itself, which no ReLU may touch.
    """

    def __init__(
        self, in_channels: int, out_channels: int, make: Make, *, hidden: int, halve: bool, first: bool = False
    ):
        super().__init__()
        self.conv1 = make(nn.Conv2d(in_channels, hidden, 3, padding=1), RELU_GAIN)
        self.conv2 = make(nn.Conv2d(hidden, out_channels, 3, padding=1), RELU_GAIN)
        changes = halve or in_channels != out_channels
        self.shortcut = make(nn.Conv2d(in_channels, out_channels, 1)) if changes else nn.Identity()
        self.halve = halve
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        """The shortcut is pooled first: the same numbers as last, a quarter of the work."""
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + self.shortcut(x)
