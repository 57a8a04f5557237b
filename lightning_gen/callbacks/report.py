"""The run as a page, refreshed while it trains."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl

from lightning_gen import files, report
from lightning_gen.callbacks.timed import Timed
from lightning_gen.module import GenerativeModule


class Report(Timed):
    """Writes report.html into the run directory, now and then and at the end of the run.

    Stands last: what the other callbacks write at a moment is on the page of that moment.

    Args:
        every_kimg: Thousands of images between two pages; 0 writes none.
    """

    def __init__(self, every_kimg: float | None = None):
        super().__init__(every_kimg or 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """There is nothing to show yet."""

    def due(self, trainer: pl.Trainer, module: GenerativeModule) -> bool:
        """The page of the end is `on_train_end`'s."""
        return super().due(trainer, module) and trainer.global_step < trainer.max_steps

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Also where a signal or the watch ended the run."""
        assert isinstance(pl_module, GenerativeModule)
        if self.every_kimg > 0:
            self.act(trainer, pl_module)

    def act(self, trainer: pl.Trainer, module: GenerativeModule) -> None:
        """Rank 0 writes. Whatever goes wrong with a page is no reason to end a run."""
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        try:
            files.write(folder / "report.html", report.page([report.read(folder)]))
        except Exception as reason:
            print(f"\nWARNING  report.html could not be written: {type(reason).__name__}: {reason}", flush=True)
