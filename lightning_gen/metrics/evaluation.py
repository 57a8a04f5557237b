"""From a model to its scores: one sampling pass, one extractor pass, every metric fed from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_gen import images
from lightning_gen.metrics.extractors import Extractor
from lightning_gen.metrics.scores import Score

BATCH = 256


@torch.no_grad()
def evaluate(
    draw: Callable[[int, int], Tensor], extractor: Extractor, scores: Sequence[Score], n: int
) -> dict[str, float]:
    """The scores of images 0 .. n, the same on every rank.

    Each rank draws its share of every global batch; the images are gathered in the order of their index, so no score
    is ever averaged over ranks and no image counted twice.

    Args:
        draw: `draw(count, start)` gives images start .. start + count, (count, C, H, W) in [-1, 1].
        extractor: Its one pass over each batch serves all scores.
        scores: What to compute; they are emptied first.
        n: Number of images.

    Raises:
        NotFinite: the model draws NaN or infinity: there is no score of that.
    """
    for score in scores:
        score.reset()
    ranks, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    share = -(-min(BATCH, n) // ranks)
    for start in range(0, n, share * ranks):
        drawn = draw(share, start + rank * share)
        pixels = images.to_uint8(_gather(drawn, ranks)[: n - start])
        features = extractor(pixels)
        for score in scores:
            score.update(pixels, features)
    values: dict[str, float] = {}
    for score in scores:
        values.update(score.compute())
    return values


def _gather(rows: Tensor, ranks: int) -> Tensor:
    """The rows of all ranks in rank order; every rank brings equally many."""
    if ranks == 1:
        return rows
    everyones = [torch.empty_like(rows) for _ in range(ranks)]
    dist.all_gather(everyones, rows.contiguous())
    return torch.cat(everyones)
