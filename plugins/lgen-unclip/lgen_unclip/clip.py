"""One space for sentences and pictures: Radford et al. 2021, https://arxiv.org/abs/2103.00020"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgen_unclip.words import END, PAD


class Text(NamedTuple):
    """What is made of B sentences of L tokens."""

    embedding: Tensor
    """(B, dim), of length 1."""
    words: Tensor
    """(B, L, width), the last layer."""
    missing: Tensor
    """(B, L) bool, where no token is."""


def transformer(width: int, depth: int, heads: int) -> nn.TransformerEncoder:
    """`depth` blocks with the normalisation first, as both papers have them."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)


class TextEncoder(nn.Module):
    """Section 2.4: a transformer that looks back only; the sentence is what it makes of the last token."""

    def __init__(self, tokens: int, context: int, width: int, depth: int, heads: int, dim: int):
        super().__init__()
        self.token = nn.Embedding(tokens, width)
        self.place = nn.Parameter(0.01 * torch.randn(context, width))
        self.blocks = transformer(width, depth, heads)
        self.out = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Text:
        length = tokens.shape[1]
        missing = tokens == PAD
        later = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        words = self.blocks(self.token(tokens) + self.place[:length], mask=later, src_key_padding_mask=missing)
        last = words[torch.arange(len(tokens), device=tokens.device), (tokens == END).int().argmax(1)]
        return Text(F.normalize(self.out(last).float(), dim=1), words.float(), missing)


class ImageEncoder(nn.Module):
    """Strided convolutions down to 4 x 4, then one layer: images (B, C, S, S) -> (B, dim) of length 1."""

    def __init__(self, image_shape: tuple[int, int, int], width: int, dim: int):
        super().__init__()
        channels, side, _ = image_shape
        layers: list[nn.Module] = []
        for stage in range(int(math.log2(side // 4))):
            out = width * min(2**stage, 8)
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.GELU()]
            layers += [nn.Conv2d(out, out, 3, padding=1), nn.GELU()]
            channels = out
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, dim))

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.layers(images).float(), dim=1)


class CLIP(nn.Module):
    """Both encoders and the temperature that they are compared at."""

    def __init__(self, text: TextEncoder, image: ImageEncoder):
        super().__init__()
        self.text = text
        self.image = image
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def loss(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Contrastive loss of pictures and their sentences; see `contrastive`."""
        scale = self.log_scale.clamp(max=math.log(100)).exp()
        same = (tokens[:, None] == tokens[None]).all(2)
        return contrastive(self.image(images), self.text(tokens).embedding, scale, same)


def contrastive(images: Tensor, texts: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """Radford et al., figure 3: cross-entropy of which sentence belongs to a picture, and which picture to a sentence.

    Args:
        images: (B, dim) of length 1.
        texts: (B, dim) of length 1, row by row what belongs to them.
        scale: Inverse temperature.
        same: (B, B) bool, whose sentences are alike: they are no negatives of each other. In the paper's data none are.
    """
    logits = scale * images @ texts.T
    twins = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    logits = logits.masked_fill(twins, -math.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
