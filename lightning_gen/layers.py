"""Blocks that two or more models use."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EqualizedConv2d(nn.Module):
    """Convolution whose weights are drawn from N(0, 1) and scaled by the He constant at run time, so that every
    layer learns at the same speed. Karras et al. 2018, section 4.1. Keeps the size; (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, gain: float = math.sqrt(2)):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = gain / math.sqrt(in_channels * kernel**2)
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Scaling the weight costs less than scaling the activations."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class EqualizedLinear(nn.Module):
    """Dense layer with equalized learning rate, (B, in) -> (B, out). Karras et al. 2018, section 4.1."""

    def __init__(self, in_features: int, out_features: int, gain: float = math.sqrt(2)):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.scale = gain / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """x W^T scaled, plus the bias."""
        return F.linear(x, self.weight * self.scale, self.bias)


def pixel_norm(x: Tensor) -> Tensor:
    """Each pixel's feature vector (dimension 1) to unit mean square. Karras et al. 2018, section 4.2.

    In float32 at least: squares leave the range of half precision, and so does the epsilon."""
    features = x.to(torch.promote_types(x.dtype, torch.float32))
    return (features * torch.rsqrt(features.square().mean(dim=1, keepdim=True) + 1e-8)).to(x.dtype)


def minibatch_stddev(x: Tensor, group: int = 4) -> Tensor:
    """Append the mean standard deviation over groups of images as a channel, (B, C, H, W) -> (B, C+1, H, W).

    Karras et al. 2018, section 3, over groups as in its published networks; the last group may be smaller.
    """
    batch, _, height, width = x.shape
    last = batch % group
    statistics = []
    for images, size in zip(x.float().split([batch - last, last]), (group, last), strict=True):
        if len(images):
            members = images.unflatten(0, (-1, size))
            # `var` over few rows takes four times as long
            variance = (members - members.mean(dim=1, keepdim=True)).square().mean(dim=1)
            deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
            statistics.append(deviation.unsqueeze(1).expand(-1, size).flatten())
    statistic = torch.cat(statistics).to(x.dtype).view(batch, 1, 1, 1)
    return torch.cat([x, statistic.expand(batch, 1, height, width)], dim=1)


def blur(x: Tensor, padding: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Low-pass filter [1, 3, 3, 1] in both directions; three pixels are lost, two less for each one of `padding`."""
    return _filtered(F.conv2d, x, padding, stride, gain)


def enlarged(image: Tensor) -> Tensor:
    """(B, C, R, R) -> (B, C, 2R, 2R) with the same filter: zeros between the pixels, then low-pass."""
    return _filtered(F.conv_transpose2d, image, padding=1, stride=2, gain=4.0)


def _filtered(convolution: Callable[..., Tensor], x: Tensor, padding: int, stride: int, gain: float) -> Tensor:
    filtered = partial(convolution, padding=padding, stride=stride, groups=x.shape[1])
    if stride == 1 or x.device.type != "cpu":
        return filtered(x, _filter(x, gain))
    # the gradient of a strided filter in bfloat16 takes a CPU ten to thirty times as long as in float32
    with torch.autocast("cpu", enabled=False):
        whole = x.to(torch.promote_types(x.dtype, torch.float32))
        return filtered(whole, _filter(whole, gain)).to(x.dtype)


def _filter(x: Tensor, gain: float) -> Tensor:
    # computed where x is: numbers from the host would make a GPU wait
    taps = (2 - (torch.arange(4, device=x.device, dtype=x.dtype) - 1.5).abs()) / 4
    return (gain * torch.outer(taps, taps)).expand(x.shape[1], 1, 4, 4)


class Maxout(nn.Module):
    """The largest of several linear maps, unit by unit, (B, in) -> (B, out). Goodfellow et al. 2013, section 3."""

    def __init__(self, in_features: int, out_features: int, pieces: int):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features * pieces)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """max_j x^T W_ij + b_ij."""
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)


def strided_generator(latent_dim: int, width: int, doublings: int, channels: int) -> nn.Sequential:
    """Latents (B, latent_dim, 1, 1) -> images (B, C, R, R), R = 4 * 2**doublings, in [-1, 1].

    Radford et al. 2016 (DCGAN), figure 1; `width` maps come before the last layer, twice as many before each earlier
    one.
    """
    widths = [width << step for step in reversed(range(doublings))]
    layers = normed(nn.ConvTranspose2d(latent_dim, widths[0], 4, bias=False))
    for wide, narrow in itertools.pairwise(widths):
        layers += normed(nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False))
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh())


def refined_generator(latent_dim: int, width: int, doublings: int, channels: int) -> nn.Sequential:
    """As `strided_generator`, but the image is made of maps of its own size, half of `width`, and 4x4 and 8x8 pixels
    have a second layer, as in LSGAN's generator (Mao et al. 2017, figure 1a). At most 2 `width` maps."""
    widths = [*(width << min(step, 1) for step in reversed(range(doublings))), max(1, width // 2)]
    layers = normed(nn.ConvTranspose2d(latent_dim, widths[0], 4, bias=False))
    for step, (wide, narrow) in enumerate(itertools.pairwise(widths)):
        if step < 2:
            layers += normed(nn.Conv2d(wide, wide, 3, padding=1, bias=False))
        layers += normed(nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False))
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh())


def normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    """The convolution, batch norm and ReLU."""
    return [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)]


def strided_discriminator(width: int, doublings: int, channels: int, batch_norm: bool = True) -> nn.Sequential:
    """The mirror image: images (B, C, R, R) -> logits (B,). No batch norm on the input layer (section 3), and without
    `batch_norm` none at all, but biases."""
    bias = not batch_norm
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=bias), nn.LeakyReLU(0.2, inplace=True)]
    for _ in range(doublings - 1):
        layers += [
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=bias),
            *([nn.BatchNorm2d(2 * width)] if batch_norm else []),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width *= 2
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, bias=bias), nn.Flatten(0))


def encoder(image_shape: tuple[int, int, int], widths: Sequence[int], hidden: Sequence[int], out: int) -> nn.Sequential:
    """Images (B, *image_shape) -> (B, out): a convolution of stride 2 for each of `widths`, a dense layer for each of
    `hidden`, ReLU after each, and a last dense layer without. Without `widths` it is the papers' dense network."""
    channels, height, width = image_shape
    layers: list[nn.Module] = []
    for wide in widths:
        layers += [nn.Conv2d(channels, wide, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        channels, height, width = wide, height // 2, width // 2
    sizes = [channels * height * width, *hidden, out]
    return nn.Sequential(*layers, nn.Flatten(), *_dense(sizes))


def decoder(
    image_shape: tuple[int, int, int], widths: Sequence[int], hidden: Sequence[int], into: int
) -> nn.Sequential:
    """The mirror image of `encoder`: latents (B, into) -> (B, *image_shape), any real number."""
    channels, height, width = image_shape
    chain = [channels, *widths]
    deepest = (chain[-1], height >> len(widths), width >> len(widths))
    layers = [*_dense([into, *reversed(hidden), math.prod(deepest)]), nn.Unflatten(1, deepest)]
    for wide, narrow in itertools.pairwise(reversed(chain)):
        layers += [nn.ReLU(inplace=True), nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)


def _dense(sizes: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(sizes):
        layers += [nn.Linear(narrow, wide), nn.ReLU(inplace=True)]
    return layers[:-1]


def first_weights(network: nn.Module) -> None:
    """Draw the weights of a convolutional network: `normal_weights` where it has batch norm, which sets signals right
    that such small ones let fade, and `he_weights` where it has none."""
    normalised = any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in network.modules())
    network.apply(normal_weights if normalised else he_weights)


def normal_weights(layer: nn.Module) -> None:
    """Weights from N(0, 0.02) (Radford et al. 2016, section 4), biases 0; batch-norm scales around 1, as in its
    published code. For `network.apply`."""
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


def he_weights(layer: nn.Module) -> None:
    """Weights from N(0, gain^2 / inputs), biases 0: He et al. 2015, equation 10, for a leaky ReLU of slope 0.2. For
    `network.apply`."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, 0.2)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
