"""Losses, gradient norms and speed, on the images axis, to every logger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from lightning_gen.callbacks.timed import record
from lightning_gen.module import GenerativeModule


class Log(pl.Callback):
    """Writes what training steps return, at the step itself: a mean over steps would differ after a resume.

    Args:
        every_kimg: Thousands of images between two records; the last step has one too. 0 writes none.
    """

    def __init__(self, every_kimg: float | None = None):
        self.every_kimg = every_kimg or 0.0
        self.latest: dict[str, float] = {}
        self._mark: tuple[float, int] | None = None
        self._paused_at = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Speed is measured from the start of the first batch."""
        assert isinstance(pl_module, GenerativeModule)
        now = time.perf_counter()
        if self._mark is None:
            self._mark = (now, pl_module.clock.images)
        elif self._paused_at:
            # what the other callbacks did since the last batch (scores, grids, checkpoints) is not training time
            self._mark = (self._mark[0] + now - self._paused_at, self._mark[1])
        self._paused_at = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the step where the clock says so. Reading a value waits for the device, so it is done only then."""
        assert isinstance(pl_module, GenerativeModule)
        due = pl_module.clock.passed(self.every_kimg) or trainer.global_step == trainer.max_steps
        if self._mark is None or self.every_kimg <= 0 or not due:
            self._paused_at = time.perf_counter()
            return
        self.latest = scalars(outputs)
        now = time.perf_counter()
        since, images = self._mark
        self.latest["images_per_second"] = round((pl_module.clock.images - images) / max(now - since, 1e-9), 2)
        self._mark = (now, pl_module.clock.images)
        self._paused_at = now
        record(trainer, pl_module, self.latest)


def scalars(outputs: Mapping[str, Any]) -> dict[str, float]:
    """The scalars of a StepOutput as Python floats; of logits their mean."""
    return {key: value.float().mean().item() for key, value in outputs.items() if isinstance(value, Tensor)}
