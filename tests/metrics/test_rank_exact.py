"""Scores do not depend on how many processes drew the images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from lightning_gen import images, noise
from lightning_gen.data.shapes import Shapes
from lightning_gen.images import NotFinite
from lightning_gen.metrics.evaluation import Panel, evaluate
from lightning_gen.metrics.extractors import Tiny

SIZES = (600, 513, 100)
"""Uneven shards; one block and a single image; and fewer images than a block, so that other ranks have none."""


def draw(count: int, start: int) -> Tensor:
    """Image i is a function of i, as a model's samples are."""
    latents = noise.normal(count, 3 * 8 * 8, seed=5, start=start).view(-1, 3, 8, 8)
    return images.to_uint8(torch.nn.functional.interpolate(latents, scale_factor=4, mode="bilinear") * 0.4)


def broken_at_the_end(count: int, start: int) -> Tensor:
    """A model that diverged for the latents of one rank alone."""
    return images.to_uint8(torch.full((count, 3, 32, 32), float("nan") if start >= 256 else 0.0))


def scores() -> list[dict[str, float]]:
    torch.set_num_threads(1)
    panel = Panel.of(Shapes(size=600), Tiny(), ["fid", "is", "kid", "prdc", "modes"])
    found = [evaluate(draw, [panel], n)[0] for n in SIZES]
    with pytest.raises(NotFinite):
        evaluate(broken_at_the_end, [panel], 600)
    return found


def one_rank(rank: int, ranks: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store-{ranks}", rank=rank, world_size=ranks)
    try:
        Path(folder, f"{ranks}-{rank}.json").write_text(json.dumps(scores()))
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 3])
def test_every_rank_of_several_gets_the_scores_of_one_process(ranks: int, tmp_path: Path) -> None:
    alone = scores()
    mp.spawn(one_rank, (ranks, str(tmp_path)), nprocs=ranks)  # a rank that hangs would be stopped with the suite
    for rank in range(ranks):
        found = json.loads((tmp_path / f"{ranks}-{rank}.json").read_text())
        for n, here, there in zip(SIZES, found, alone, strict=True):
            assert here == pytest.approx(there, rel=1e-6), f"{n} images, rank {rank} of {ranks}"


def test_several_protocols_draw_each_image_once() -> None:
    drawn: list[range] = []

    def counted(count: int, start: int) -> Tensor:
        drawn.append(range(start, start + count))
        return draw(count, start)

    panels = [Panel.of(Shapes(size=600), Tiny(), ["fid"]) for _ in range(2)]
    one, other = evaluate(counted, panels, 300)
    assert one == other
    assert [i for part in drawn for i in part] == list(range(300))
