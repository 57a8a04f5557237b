"""Callbacks that act now and then on the clock of images seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytorch_lightning as pl

from lightning_gen.module import GenerativeModule


class Timed(pl.Callback, ABC):
    """Acts on the untrained model, whenever the clock passes a multiple of `every_kimg`, and at the end of the run.

    Which steps those are is a function of the clock, so a resumed run acts where the uninterrupted one did.
    """

    def __init__(self, every_kimg: float):
        self.every_kimg = every_kimg

    @abstractmethod
    def act(self, trainer: pl.Trainer, module: GenerativeModule) -> None:
        """Called on every rank at the same step."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The untrained model is the first point of every curve."""
        assert isinstance(pl_module, GenerativeModule)
        if pl_module.clock.images == 0:
            self.act(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Act where the clock says so."""
        assert isinstance(pl_module, GenerativeModule)
        if self.due(trainer, pl_module):
            self.act(trainer, pl_module)

    def due(self, trainer: pl.Trainer, module: GenerativeModule) -> bool:
        """Whether to act after this step; with `every_kimg` 0 or less never."""
        ends = trainer.global_step == trainer.max_steps
        return self.every_kimg > 0 and (module.clock.passed(self.every_kimg) or ends)


def record(trainer: pl.Trainer, module: GenerativeModule, values: dict[str, float]) -> None:
    """Hand one record to every logger. The axis of all of them is images seen; `step` counts generator updates."""
    for logger in trainer.loggers:
        logger.log_metrics({"step": trainer.global_step, **values}, step=module.clock.images)
