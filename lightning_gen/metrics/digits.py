"""Which digits a picture of stacked MNIST shows, by a small classifier whose weights ship with the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_gen.data.stacked_mnist import spelled

SIDE = 32
BATCH = 1000


class DigitNet(nn.Sequential):
    """Grey pictures (N, 1, 32, 32) in [0, 255] to logits of the ten digits (N, 10)."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 5, stride=2, padding=2), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(64 * 16, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the digits."""
        return super().forward(x / 127.5 - 1)


def numbers(images: Tensor) -> Tensor:
    """The number that each picture (N, 3, H, W) uint8 spells, (N,) int64."""
    net = _net()
    found = []
    with torch.no_grad():
        for rows in images.cpu().split(BATCH):
            grey = rows.flatten(0, 1).unsqueeze(1).float()
            if grey.shape[-2:] != (SIDE, SIDE):
                grey = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
            found.append(spelled(net(grey).argmax(1).view(-1, 3)))
    return torch.cat(found)


def coverage(images: Tensor, frequencies: Tensor) -> dict[str, float]:
    """{"modes_covered": of 1,000, "mode_kl": nats} of pictures (N, 3, H, W) uint8.

    A mode is covered by one picture that is read as it. The divergence is KL(samples || data) over the modes, with the
    data's `frequencies` (1000,), as in Srivastava et al. 2017 (VEEGAN), section 4.2, and Lin et al. 2018 (PacGAN).
    """
    counts = torch.bincount(numbers(images), minlength=len(frequencies)).double()
    share, truth = counts / counts.sum(), frequencies.double() / frequencies.sum()
    there = share > 0
    kl = (share[there] * (share[there] / truth[there].clamp_min(1e-12)).log()).sum()
    return {"modes_covered": int(there.sum()), "mode_kl": float(kl)}


@cache
def _net() -> DigitNet:
    net = DigitNet()
    stored = load_file(Path(__file__).with_name("digits.safetensors"))
    net.load_state_dict({name: value.float() for name, value in stored.items()})
    return net.requires_grad_(False).eval()
