"""The networks that diffuse: a transformer over embeddings (the prior) and a U-Net over pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgen_unclip.clip import Text, transformer


class Time(nn.Module):
    """Times (B,) in [0, 1] as vectors (B, width): sinusoids, then two layers."""

    def __init__(self, width: int, waves: int = 64):
        super().__init__()
        self.register_buffer("rates", torch.exp(torch.linspace(0, math.log(1000), waves // 2)), persistent=False)
        self.layers = nn.Sequential(nn.Linear(waves, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.rates * (math.pi / 2)
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class Prior(nn.Module):
    """Ramesh et al. 2022, section 2.2: guesses the image embedding itself from a noised one and the text.

    The transformer reads the words, the text embedding, the time, the noised embedding, and last a learnt query whose
    output is the answer; each looks back only.
    """

    def __init__(self, dim: int, text_width: int, width: int, depth: int, heads: int, context: int):
        super().__init__()
        self.words = nn.Linear(text_width, width)
        self.text = nn.Linear(dim, width)
        self.noised = nn.Linear(dim, width)
        self.time = Time(width)
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.place = nn.Parameter(0.02 * torch.randn(context + 4, width))
        self.blocks = transformer(width, depth, heads)
        self.out = nn.Linear(width, dim)

    def forward(self, x: Tensor, t: Tensor, text: Text, scale: float) -> Tensor:
        """x (B, dim) at times t (B,) in [0, 1]; `scale` brings embeddings of length 1 to the size of x."""
        context = len(self.place) - 4
        tail = [self.text(scale * text.embedding), self.time(t), self.noised(x), self.query.expand(len(x), -1)]
        words = self.words(text.words)
        # the tail has places of its own, whatever the length of the sentence
        read = torch.cat([words + self.place[: words.shape[1]], torch.stack(tail, dim=1) + self.place[context:]], dim=1)
        missing = torch.cat([text.missing, text.missing.new_zeros(len(x), 4)], dim=1)
        later = torch.ones(read.shape[1], read.shape[1], dtype=torch.bool, device=x.device).triu(1)
        return self.out(self.blocks(read, mask=later, src_key_padding_mask=missing)[:, -1]).float()


class Block(nn.Module):
    """Two convolutions beside a shortcut; the condition scales and shifts in between (Dhariwal & Nichol 2021)."""

    def __init__(self, ins: int, outs: int, condition: int):
        super().__init__()
        self.first = nn.Sequential(_norm(ins), nn.SiLU(), nn.Conv2d(ins, outs, 3, padding=1))
        self.norm = _norm(outs)
        self.condition = nn.Linear(condition, 2 * outs)
        self.second = nn.Conv2d(outs, outs, 3, padding=1)
        self.shortcut = nn.Conv2d(ins, outs, 1) if ins != outs else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.condition(F.silu(condition))[:, :, None, None].chunk(2, dim=1)
        h = self.norm(self.first(x)) * (1 + scale) + shift
        return self.shortcut(x) + self.second(F.silu(h))


class Attention(nn.Module):
    """Every place looks at every other."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.norm = _norm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        places = self.norm(x).flatten(2).transpose(1, 2)
        seen = self.attention(places, places, places, need_weights=False)[0]
        return x + seen.transpose(1, 2).unflatten(2, x.shape[2:])


class UNet(nn.Module):
    """Pictures (B, channels, S, S) at times (B,) -> (B, channels, S, S), with a condition (B, dim) or none.

    Args:
        channels: Of the pictures.
        width: Feature maps of the first level.
        multiples: Of `width`, level by level; each halves the side.
        blocks: Residual blocks of a level, on the way down and on the way up.
        dim: Of the condition; 0 for none.
        patch: Side of the squares of pixels that the first level sees as one: a large picture costs as a small one.
        beside: Channels of a picture of side S / patch that is known, such as the one to be enlarged.
        attention: Whether the deepest level has it.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        multiples: Sequence[int],
        blocks: int,
        dim: int = 0,
        patch: int = 1,
        beside: int = 0,
        attention: bool = True,
    ):
        super().__init__()
        condition = 4 * width
        self.patch = patch
        self.time = Time(condition)
        self.given = nn.Linear(dim, condition) if dim else None
        self.enter = nn.Conv2d(channels * patch**2 + beside, width, 3, padding=1)
        widths = [width * multiple for multiple in multiples]
        kept, now = [width], width
        self.down = nn.ModuleList()
        for level, w in enumerate(widths):
            for _ in range(blocks):
                self.down.append(Block(now, w, condition))
                kept.append(w)
                now = w
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(w, w, 3, stride=2, padding=1))
                kept.append(w)
        self.middle = Block(now, now, condition)
        self.attention = Attention(now) if attention else nn.Identity()
        self.up = nn.ModuleList()
        for level, w in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(Block(now + kept.pop(), w, condition))
                now = w
            if level > 0:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(w, w, 3, padding=1)))
        self.leave = nn.Sequential(_norm(now), nn.SiLU(), nn.Conv2d(now, channels * patch**2, 3, padding=1))
        nn.init.zeros_(self.leave[-1].weight)
        nn.init.zeros_(self.leave[-1].bias)

    def forward(self, x: Tensor, t: Tensor, given: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        condition = self.time(t)
        if self.given is not None:
            assert given is not None
            condition = condition + self.given(given)
        x = F.pixel_unshuffle(x, self.patch)
        x = self.enter(x if beside is None else torch.cat([x, beside], dim=1))
        kept = [x]
        for part in self.down:
            x = part(x, condition) if isinstance(part, Block) else part(x)
            kept.append(x)
        x = self.attention(self.middle(x, condition))
        for part in self.up:
            x = part(torch.cat([x, kept.pop()], dim=1), condition) if isinstance(part, Block) else part(x)
        return F.pixel_shuffle(self.leave(x), self.patch).float()


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(width, 8), width)
