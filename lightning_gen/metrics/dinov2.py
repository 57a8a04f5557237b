"""The network behind the extractor `dinov2-vit-b-14`: Oquab et al. 2023, "DINOv2: Learning Robust Visual Features
without Supervision" (arXiv:2304.07193), the vision transformer of Dosovitskiy et al. 2020 (arXiv:2010.11929) with a
learned scale on every branch.

Written here so that a score takes one file of tensors: its authors' way (`torch.hub`), and with it torch-fidelity's,
downloads their repository and runs it. The names of the parameters are theirs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 768
DEPTH = 12
HEADS = 12
PATCH = 14
GRID = 37
"""Patches along a side of the 518x518 pictures that the positions were learned on."""


class Attention(nn.Module):
    """Every token looks at every token."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, WIDTH) to the same shape."""
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, WIDTH))


class MLP(nn.Module):
    """Two layers on each token by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, WIDTH) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor for each channel: Touvron et al. 2021 (arXiv:2103.17239)."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, WIDTH) to the same shape."""
        return self.gamma * x


class Block(nn.Module):
    """x + scale · attention(norm(x)), then the same with the MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = Attention()
        self.ls1 = LayerScale()
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = MLP()
        self.ls2 = LayerScale()

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, WIDTH) to the same shape."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DINOv2(nn.Module):
    """ViT-B/14 without registers; its feature is the normed class token."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.mask_token = nn.Parameter(torch.zeros(1, WIDTH))  # in the file, for training only
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, PATCH, PATCH)})
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def positions(self, side: int) -> Tensor:
        """What is added to the tokens of a picture of side x side patches, (1, 1 + side², WIDTH).

        The learned grid is resized by the factor (side + 0.1) / GRID, as the authors' code does for these weights:
        with the exact factor the feature is another one.
        """
        if side == GRID:
            return self.pos_embed
        learned = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (GRID, GRID))
        grid = F.interpolate(learned, scale_factor=(side + 0.1) / GRID, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, S, S) in ImageNet's normalization, S a multiple of PATCH, to features (N, WIDTH)."""
        patches = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1)
        tokens = tokens + self.positions(x.shape[-1] // PATCH)
        return self.norm(self.blocks(tokens))[:, 0]
