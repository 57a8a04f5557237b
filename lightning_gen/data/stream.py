"""The order of the data, a function of (seed, images seen): a resumed run repeats and skips nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_gen import noise, signals
from lightning_gen.data.source import Batch, Source


class Rows(NamedTuple):
    """Which rows of a source make this rank's next batch, and where in the endless stream they stand."""

    indices: np.ndarray
    positions: np.ndarray


class Stream(Sampler[Rows]):
    """Endless batches from `start` images on: epoch after epoch, each in its own order.

    The global batch at position p holds the positions p .. p + batch_size * chunks; each of its `chunks` (critic
    steps) is divided among the ranks, so any number of processes draws the same global batches.
    """

    def __init__(
        self, length: int, batch_size: int, *, seed: int, start: int = 0, chunks: int = 1, rank: int = 0, ranks: int = 1
    ):
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.chunks = chunks
        share = batch_size // ranks
        self._offsets = np.concatenate(
            [
                np.arange(chunk * batch_size + rank * share, chunk * batch_size + (rank + 1) * share)
                for chunk in range(chunks)
            ]
        )

    def __iter__(self) -> Iterator[Rows]:
        position = self.start
        epoch, order = -1, np.empty(0, np.int64)
        while True:
            positions = position + self._offsets
            indices = np.empty_like(positions)
            first, last = int(positions[0]) // self.length, int(positions[-1]) // self.length  # offsets ascend
            for here in range(first, last + 1):
                if here != epoch:
                    epoch, order = here, np.random.default_rng([self.seed, here]).permutation(self.length)
                inside = ... if first == last else positions // self.length == here
                indices[inside] = order[positions[inside] - here * self.length]
            yield Rows(indices, positions)
            position += self.batch_size * self.chunks


class Augmented(Dataset[Batch]):
    """A source as training sees it: one vectorised read for a whole batch, then its chance-driven changes."""

    def __init__(self, source: Source, seed: int):
        self.source = source
        self.seed = seed

    def __getitem__(self, rows: Rows) -> Batch:
        return self.source.augment(self.source.read(rows.indices), noise.chance(rows.positions, self.seed))


def loader(source: Source, stream: Stream, *, workers: int = 0, pin_memory: bool = False) -> DataLoader[Batch]:
    """Batches of `source` in the order of `stream`. Reading is one vectorised index: no worker is needed."""
    return DataLoader(
        Augmented(source, stream.seed),
        sampler=stream,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=signals.leave_to_the_run,
        generator=torch.Generator(),  # its base seed must not be drawn from the global stream
    )
