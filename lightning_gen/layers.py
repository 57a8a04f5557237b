"""Blocks that two or more models use."""

from __future__ import annotations

import math

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
    """Each pixel's feature vector (dimension 1) to unit mean square. Karras et al. 2018, section 4.2."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def minibatch_stddev(x: Tensor, group: int = 4) -> Tensor:
    """Append the mean standard deviation over groups of images as a channel, (B, C, H, W) -> (B, C+1, H, W).

    Karras et al. 2018, section 3, over groups as in its published networks; the last group may be smaller.
    """
    batch, _, height, width = x.shape
    statistics = []
    for members in x.float().split(group):
        deviation = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        statistics.append(deviation.expand(len(members)))
    statistic = torch.cat(statistics).to(x.dtype).view(batch, 1, 1, 1)
    return torch.cat([x, statistic.expand(batch, 1, height, width)], dim=1)
