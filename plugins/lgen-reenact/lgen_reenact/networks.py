"""Embedder, generator and discriminator: Zakharov et al. 2019, sections 3.1 and 4."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.resnet import DiscriminatorBlock, GeneratorBlock, SelfAttention, spectral_glorot

DOWN_ATTENTION, UP_ATTENTION = 32, 64
"""Sides of the maps over which self-attention stands, on the way down and on the way up."""


def widths(width: int, halvings: int) -> list[int]:
    """Feature maps after each halving: they double up to eight times the first."""
    return [min(width << depth, 8 * width) for depth in range(halvings)]


class Encoder(nn.Module):
    """Residual blocks that halve, (B, ins, R, R) to (B, wide, R / 2**halvings, R / 2**halvings); every layer under
    spectral norm."""

    def __init__(self, ins: int, resolution: int, width: int, halvings: int):
        super().__init__()
        chain = [ins, *widths(width, halvings)]
        self.blocks = nn.ModuleList()
        side = resolution
        for depth, (narrow, wide) in enumerate(itertools.pairwise(chain)):
            side //= 2
            block: nn.Module = DiscriminatorBlock(
                narrow, wide, spectral_glorot, hidden=wide, halve=True, first=depth == 0
            )
            if side == DOWN_ATTENTION:
                block = nn.Sequential(block, SelfAttention(wide, spectral_glorot))
            self.blocks.append(block)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps after each block."""
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps


def pooled(x: Tensor) -> Tensor:
    """Sum over the places, then ReLU: (B, D, h, w) to (B, D). Section 4."""
    return F.relu(x.sum((2, 3)))


class Embedder(nn.Module):
    """Frames and their landmarks (B, K, 6, R, R) to one vector for each person, (B, D): the mean over the K frames."""

    def __init__(self, resolution: int, width: int, halvings: int):
        super().__init__()
        self.encoder = Encoder(6, resolution, width, halvings)
        self.dim = widths(width, halvings)[-1]

    def forward(self, shots: Tensor) -> Tensor:
        """Equation 1 and the mean of section 3.2."""
        vectors: Tensor = pooled(self.encoder(shots.flatten(0, 1))[-1])
        return vectors.unflatten(0, shots.shape[:2]).mean(1)


class AdaIN(nn.Module):
    """Instance norm whose scale and shift are a stretch of the person's parameters. Huang & Belongie 2017, equation 8.

    Args:
        channels: Of the maps.
        start: Where the stretch begins.
    """

    def __init__(self, channels: int, start: int):
        super().__init__()
        self.channels, self.start = channels, start
        self.norm = nn.InstanceNorm2d(channels)

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """(B, C, H, W) and the person's parameters (B, P) to the same shape; scales count from 1."""
        scale, shift = styles[:, self.start : self.start + 2 * self.channels, None, None].chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift


class Same(nn.Module):
    """A residual block that keeps size and channels: norm, ReLU, convolution, twice."""

    def __init__(self, norm1: AdaIN, norm2: AdaIN):
        super().__init__()
        self.norm1, self.norm2 = norm1, norm2
        self.conv1, self.conv2 = (
            spectral_glorot(nn.Conv2d(norm1.channels, norm1.channels, 3, padding=1)) for _ in "12"
        )

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """The shapes of AdaIN."""
        h = self.conv1(F.relu(self.norm1(x, styles)))
        return x + self.conv2(F.relu(self.norm2(h, styles)))


class Generator(nn.Module):
    """Landmarks (B, 3, R, R) and a person's parameters (B, styles) to frames (B, 3, R, R) in [-1, 1].

    The landmarks go down through plain instance norm and know no person; all that is left of the person enters through
    AdaIN in the blocks between and on the way up.
    """

    def __init__(self, resolution: int, width: int, halvings: int, blocks: int):
        super().__init__()
        down = widths(width, halvings)
        self.encoder = Encoder(3, resolution, width, halvings)
        self.norms = nn.ModuleList(nn.InstanceNorm2d(wide, affine=True) for wide in down)
        self.styles = 0

        def adain(channels: int) -> AdaIN:
            norm = AdaIN(channels, self.styles)
            self.styles += 2 * channels
            return norm

        self.body = nn.ModuleList(Same(adain(down[-1]), adain(down[-1])) for _ in range(blocks))
        self.up, self.attention = nn.ModuleList(), nn.ModuleDict()
        side = resolution >> halvings
        for depth, (wide, narrow) in enumerate(itertools.pairwise([*reversed(down), width])):
            self.up.append(GeneratorBlock(wide, narrow, spectral_glorot, adain))
            side *= 2
            if side == UP_ATTENTION:
                self.attention[str(depth)] = SelfAttention(narrow, spectral_glorot)
        self.norm = adain(width)
        self.last = spectral_glorot(nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, landmarks: Tensor, styles: Tensor) -> Tensor:
        """G(y; psi, psi_hat)."""
        x = landmarks
        for block, norm in zip(self.encoder.blocks, self.norms, strict=True):
            x = norm(block(x))
        for block in self.body:
            x = block(x, styles)
        for depth, block in enumerate(self.up):
            x = block(x, styles)
            if str(depth) in self.attention:
                x = self.attention[str(depth)](x)
        return torch.tanh(self.last(F.relu(self.norm(x, styles))))


class Discriminator(nn.Module):
    """V and the row of a video in W: frames with landmarks (B, 6, R, R) to realism (B,), equation 5.

    As the embedder with one more block that keeps the size.

    Args:
        resolution: R.
        width: Feature maps after the first halving.
        halvings: Down to 4 pixels a side in the paper.
        videos: Rows of W.
    """

    def __init__(self, resolution: int, width: int, halvings: int, videos: int):
        super().__init__()
        self.encoder = Encoder(6, resolution, width, halvings)
        dim = widths(width, halvings)[-1]
        self.last = DiscriminatorBlock(dim, dim, spectral_glorot, hidden=dim, halve=False)
        self.videos = nn.Embedding(videos, dim)
        nn.init.normal_(self.videos.weight, std=0.02)
        self.any_video = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, seen: Tensor, person: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Realism V(x, y)^T (w + w_0) + b for rows w (B, D) of W or in their place, and the maps of all blocks."""
        maps = self.encoder(seen)
        maps.append(self.last(maps[-1]))
        return (pooled(maps[-1]) * (person + self.any_video)).sum(1) + self.bias, maps
