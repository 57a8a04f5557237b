"""Networks from picture to picture, and the discriminators of patches: what two or more translating models use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "instance"]
Patch = Literal[1, 16, 70]


class ResNetGenerator(nn.Module):
    """Johnson et al. 2016's transformer as Zhu et al. 2017 use it (appendix 7.2): c7s1-64, d128, d256, residual blocks
    R256, u128, u64, c7s1-3. Pictures (B, ins, H, W) to (B, outs, H, W) in [-1, 1]; H and W are multiples of 4.

    Args:
        ins: Channels of the pictures that come in.
        outs: Channels of those that come out.
        width: Feature maps of the first layer.
        blocks: Residual blocks; the paper takes 6 at 128 pixels and 9 from 256 on.
        norm: Batch or instance normalisation, the latter without scales of its own.
        dropout: Whether each block drops half of its inner maps (Isola et al. 2017).
    """

    stride = 4

    def __init__(self, ins: int, outs: int, width: int, blocks: int, norm: Norm, dropout: bool = False):
        super().__init__()
        layers = [nn.ReflectionPad2d(3), *_block(nn.Conv2d, ins, width, norm, kernel_size=7)]
        for _ in range(2):
            layers += _block(nn.Conv2d, width, 2 * width, norm, kernel_size=3, stride=2, padding=1)
            width *= 2
        layers += [Residual(width, norm, dropout) for _ in range(blocks)]
        for _ in range(2):
            up = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
            layers += _block(nn.ConvTranspose2d, width, width // 2, norm, **up)
            width //= 2
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, outs, 7), nn.Tanh())

    def forward(self, pictures: Tensor) -> Tensor:
        """Straight through."""
        return self.layers(pictures)


class Residual(nn.Module):
    """x plus two convolutions of x, (B, width, H, W); no ReLU after the sum."""

    def __init__(self, width: int, norm: Norm, dropout: bool):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_block(nn.Conv2d, width, width, norm, kernel_size=3),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            *_block(nn.Conv2d, width, width, norm, kernel_size=3)[:-1],
        )

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        return x + self.layers(x)


class PatchDiscriminator(nn.Module):
    """A logit for every patch of a picture: (B, ins, H, W) -> (B, patches).

    Isola et al. 2017, section 3.2.2 and appendix 6.1.2: C64-C128-C256-C512 sees patches of 70 x 70 pixels, C64-C128
    those of 16 x 16, and convolutions of one pixel each pixel for itself. No norm on the first layer.

    Args:
        ins: Channels; of a conditional discriminator those of both pictures.
        width: Feature maps of the first layer.
        patch: Side of a patch in pixels.
        norm: Batch or instance normalisation, the latter without scales of its own.
    """

    def __init__(self, ins: int, width: int, patch: Patch, norm: Norm):
        super().__init__()
        if patch == 1:
            layers = [nn.Conv2d(ins, width, 1), nn.LeakyReLU(0.2, inplace=True)]
            layers += _block(nn.Conv2d, width, 2 * width, norm, slope=0.2, kernel_size=1)
            self.layers = nn.Sequential(*layers, nn.Conv2d(2 * width, 1, 1, bias=norm == "instance"))
            return
        halvings = {16: 1, 70: 3}[patch]
        layers = [nn.Conv2d(ins, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for depth in range(1, halvings + 1):
            stride = 2 if depth < halvings else 1
            layers += _block(nn.Conv2d, width, 2 * width, norm, slope=0.2, kernel_size=4, stride=stride, padding=1)
            width *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Patches from left to right, top to bottom."""
        return self.layers(pictures).flatten(1)


class OwnBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that, in evaluation, takes the statistics of each picture alone (Isola et al. 2017, section 3.3).

    Those are what training saw where its batches were of one, and no picture depends on its neighbours. There are no
    running ones.
    """

    def __init__(self, width: int):
        super().__init__(width, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return super().forward(x) if self.training else F.instance_norm(x, weight=self.weight, bias=self.bias)


def normalisation(norm: Norm, width: int) -> nn.Module:
    """Over the batch, with scales; or over each picture alone, without."""
    return OwnBatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width)


def _block(conv: Callable[..., nn.Module], ins: int, outs: int, norm: Norm, slope: float = 0.0, **how: int) -> list:
    """Convolution, norm, ReLU; batch norm has the bias that the convolution then does not need."""
    relu = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
    return [conv(ins, outs, bias=norm == "instance", **how), normalisation(norm, outs), relu]


def in_pieces(network: Callable[[Tensor], Tensor], pictures: Tensor, size: int) -> Tensor:
    """`network` of pictures (B, ...), so many at a time: a whole block of large ones would not fit into memory. In an
    exported graph, whose user chooses the batch, all at once."""
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return network(pictures)
    return torch.cat([network(piece) for piece in pictures.split(size)])
