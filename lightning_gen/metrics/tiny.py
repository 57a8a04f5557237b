"""The network behind the extractor `tiny`: a residual classifier of 32x32 pictures, small enough to ship."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEATURES = 128
CLASSES = 10
SIZE = 32


class ConvRelu(nn.Module):
    """3x3 convolution, batch norm while it is trained, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: bool):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(outputs) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        x = self.conv(x)
        return torch.relu(x if self.norm is None else self.norm(x))


class Residual(nn.Module):
    """x plus two convolutions of x: the identity path is left alone, so no norm hides the scale of the input."""

    def __init__(self, width: int, norm: bool):
        super().__init__()
        self.first = ConvRelu(width, width, 1, norm)
        self.second = ConvRelu(width, width, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same shape."""
        return x + self.second(self.first(x))


class TinyNet(nn.Module):
    """A compact residual classifier after He et al. 2016 (arXiv:1512.03385) and the DAWNBench nets of D. Page 2018.

    The packaged weights have the batch norms folded into the convolutions (`norm=False`, plain convolutions with
    bias); `benchmarks/tiny/train.py` trains with `norm=True` and folds.
    """

    def __init__(self, norm: bool = False):
        super().__init__()
        self.stages = nn.Sequential(
            ConvRelu(3, 32, 1, norm),  # the first layer sees every pixel: noise and blur live there
            ConvRelu(32, 64, 2, norm),  # 16x16
            Residual(64, norm),
            Residual(64, norm),
            ConvRelu(64, FEATURES, 2, norm),  # 8x8
            Residual(FEATURES, norm),
        )
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, 32, 32), float in [0, 255], to pooled features (N, 128) and logits (N, 10)."""
        features = self.stages((x - 127.5) / 64.0).mean(dim=(2, 3))
        return features, self.head(features)
