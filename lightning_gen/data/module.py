"""The data of a run as Lightning sees it: one endless training loader, built where the clock stands."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from lightning_gen.data.source import Source
from lightning_gen.data.stream import Stream, loader


class RunData(pl.LightningDataModule):
    """A source, and how a run draws from it.

    Args:
        source: Where images come from.
        batch_size: Images in a batch over all ranks; divisible by their number.
        critic_steps: Batches that one training step takes.
        seed: Names the order.
        workers: Processes that load ahead.
    """

    def __init__(self, source: Source, batch_size: int, critic_steps: int, seed: int, workers: int = 0):
        super().__init__()
        self.source = source
        self.batch_size = batch_size
        self.critic_steps = critic_steps
        self.seed = seed
        self.workers = workers

    @property
    def images_per_step(self) -> int:
        """Real images that one training step consumes, over all ranks."""
        return self.batch_size * self.critic_steps

    def train_dataloader(self) -> DataLoader[Any]:
        """Called after a checkpoint is restored: the stream starts at the clock."""
        trainer = self.trainer
        assert trainer is not None
        module: Any = trainer.lightning_module
        stream = Stream(
            len(self.source),
            self.batch_size,
            seed=self.seed,
            start=module.clock.images,
            chunks=self.critic_steps,
            rank=trainer.global_rank,
            ranks=trainer.world_size,
        )
        return loader(self.source, stream, workers=self.workers, pin_memory=module.device.type == "cuda")
