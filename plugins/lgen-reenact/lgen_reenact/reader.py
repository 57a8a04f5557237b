"""Reads landmarks and attributes back from frames of procedural faces: what scores are made with.

A small network, trained by `train_reader.py` on procedural faces that no score uses; README.md says how well it reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

POINTS, ATTRIBUTES, SIDE = 35, 12, 32


class Read(NamedTuple):
    """What a frame shows."""

    points: Tensor
    """(B, 35, 2), x and y in [-1, 1]."""
    attributes: Tensor
    """(B, 12), as `lgen_reenact.face.Person.attributes`."""


class Reader(nn.Module):
    """Frames (B, 3, R, R) uint8 to what they show; they are brought to 32 pixels a side."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 16, 1),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * 64, 160), nn.ReLU(), nn.Linear(160, 2 * POINTS + ATTRIBUTES)
        )

    def forward(self, frames: Tensor) -> Read:
        """Floats in [0, 255] will do as well."""
        x = frames.float() / 127.5 - 1
        if x.shape[-1] != SIDE:
            x = F.interpolate(x, (SIDE, SIDE), mode="area")
        found = self.head(self.maps(x))
        return Read(found[:, : 2 * POINTS].unflatten(1, (POINTS, 2)), found[:, 2 * POINTS :])


def load() -> Reader:
    """The reader with the weights that come with the package, in evaluation mode."""
    with torch.device("meta"):  # draws no random numbers
        reader = Reader()
    stored = load_file(Path(__file__).with_name("reader.safetensors"))
    reader.load_state_dict({name: value.float() for name, value in stored.items()}, assign=True)
    return reader.eval().requires_grad_(False)
