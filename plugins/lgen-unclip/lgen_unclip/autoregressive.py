"""The other prior of the paper: the image embedding as a sequence of codes that a transformer predicts one by one."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgen_unclip.clip import Text, transformer

MEMORY = 0.99
"""How much of the running moments of embeddings one batch leaves as it was."""


class Codes(nn.Module):
    """Embeddings as codes and back: Ramesh et al. 2022, section 2.2, "AR prior".

    The principal components of embeddings, the largest first, each cut into buckets that are equally likely for a
    normal distribution. The axes are found once, by `settle`, from moments that `watch` has kept: codes that change
    their meaning could not be learnt.

    Args:
        dim: Of the embeddings.
        count: Components that are kept.
        buckets: Of each component.
    """

    def __init__(self, dim: int, count: int, buckets: int):
        super().__init__()
        self.buckets = buckets
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("square", torch.eye(dim))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("axes", torch.eye(dim)[:count])
        self.register_buffer("deviation", torch.ones(count))
        self.register_buffer("settled", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def watch(self, embeddings: Tensor) -> None:
        """Take in a batch (B, dim)."""
        keep = MEMORY if self.seen > 0 else 0.0
        self.mean.lerp_(embeddings.mean(0), 1 - keep)
        with _exact(embeddings):
            self.square.lerp_(embeddings.T @ embeddings / len(embeddings), 1 - keep)
        self.seen += len(embeddings)

    @torch.no_grad()
    def settle(self) -> None:
        """Find the axes; from now on codes mean what they mean."""
        spread, axes = torch.linalg.eigh(self.square - torch.outer(self.mean, self.mean))
        largest = spread.argsort(descending=True)[: len(self.axes)]
        self.axes.copy_(axes[:, largest].T)
        self.deviation.copy_(spread[largest].clamp_min(1e-12).sqrt())
        self.settled.fill_(True)

    def of(self, embeddings: Tensor) -> Tensor:
        """Codes (B, count) int64 of embeddings (B, dim)."""
        with _exact(embeddings):
            places = (embeddings - self.mean) @ self.axes.T / self.deviation
        return (torch.special.ndtr(places) * self.buckets).long().clamp(0, self.buckets - 1)

    def embedding(self, codes: Tensor) -> Tensor:
        """The middles (by probability) of the buckets, as embeddings (B, dim)."""
        places = torch.special.ndtri((codes.double() + 0.5) / self.buckets).float() * self.deviation
        with _exact(places):
            return self.mean + places @ self.axes


def _exact(x: Tensor) -> torch.autocast:
    """Inside, products of matrices are of full precision: the smaller components would be lost."""
    return torch.autocast(x.device.type, enabled=False)


class AutoregressivePrior(nn.Module):
    """Codes one by one, from the words, the text embedding and the codes before.

    Args:
        codes: How embeddings become codes.
        dim: Of the embeddings.
        text_width: Of the words.
        width: Of the transformer.
        depth: Its blocks.
        heads: Of its attention.
        context: Most words.
    """

    def __init__(self, codes: Codes, dim: int, text_width: int, width: int, depth: int, heads: int, context: int):
        super().__init__()
        self.codes = codes
        count = len(codes.axes)
        self.words = nn.Linear(text_width, width)
        self.text = nn.Linear(dim, width)
        self.code = nn.Embedding(count * codes.buckets, width)
        self.place = nn.Parameter(0.02 * torch.randn(context + count, width))
        self.blocks = transformer(width, depth, heads)
        self.out = nn.Linear(width, codes.buckets)
        nn.init.normal_(self.code.weight, std=0.02)

    def forward(self, codes: Tensor, text: Text, scale: float) -> Tensor:
        """Logits (B, k + 1, buckets) of the first k + 1 codes, each from those before it, from the first k, (B, k)."""
        count = len(self.codes.axes)
        context = len(self.place) - count
        first = torch.arange(codes.shape[1], device=codes.device) * self.codes.buckets
        tail = torch.cat([self.text(scale * text.embedding)[:, None], self.code(codes + first)], dim=1)
        words = self.words(text.words)
        read = torch.cat(
            [words + self.place[: words.shape[1]], tail + self.place[context : context + tail.shape[1]]], dim=1
        )
        missing = torch.cat([text.missing, text.missing.new_zeros(len(codes), tail.shape[1])], dim=1)
        later = torch.ones(read.shape[1], read.shape[1], dtype=torch.bool, device=read.device).triu(1)
        seen = self.blocks(read, mask=later, src_key_padding_mask=missing)
        return self.out(seen[:, -tail.shape[1] :]).float()

    def loss(self, embeddings: Tensor, text: Text, scale: float) -> Tensor:
        """Cross-entropy of the codes of embeddings (B, dim), in nats a code."""
        codes = self.codes.of(embeddings)
        logits = self(codes[:, :-1], text, scale)
        return F.cross_entropy(logits.flatten(0, 1), codes.flatten())

    def sample(self, text: Text, scale: float, chance: Callable[[int], Tensor]) -> Tensor:
        """Embeddings (B, dim); `chance(k)` gives a uniform number (B,) for code k."""
        codes = torch.zeros(len(text.embedding), 0, dtype=torch.int64, device=text.embedding.device)
        for k in range(len(self.codes.axes)):
            likely = self(codes, text, scale)[:, -1].softmax(1).double().cumsum(1)
            where = chance(k).to(likely)[:, None] * likely[:, -1:]
            drawn = torch.searchsorted(likely, where, right=True).clamp_max(self.codes.buckets - 1)
            codes = torch.cat([codes, drawn], dim=1)
        return self.codes.embedding(codes)
