"""The progress bar: kimg done, kimg/s, time left, losses, newest score. Off a terminal, a line now and then."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from lightning_gen.callbacks.log import Log
from lightning_gen.callbacks.metrics import Metrics
from lightning_gen.module import GenerativeModule


class Progress(pl.Callback):
    """Shows how far the run is, on the standard error stream.

    Args:
        refresh: Seconds between two updates of the bar.
        every_seconds: Seconds between two lines where the output is no terminal.
    """

    def __init__(self, refresh: float = 0.5, every_seconds: float = 30.0):
        self.refresh = refresh
        self.every_seconds = every_seconds
        self.console = Console(stderr=True)
        self._bar: Bar | None = None
        self._shown = 0.0
        self._began = (0.0, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rank 0 alone shows it."""
        assert isinstance(pl_module, GenerativeModule)
        self._began = (time.monotonic(), pl_module.clock.images)
        self._shown = time.monotonic()
        if trainer.is_global_zero and self.console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.fields[done]}"),
                BarColumn(bar_width=None),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=self.console,
            )
            self._bar.add_task("", total=self._budget(trainer, pl_module), done="", numbers="")
            self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Update the bar, or print a line when one is due."""
        assert isinstance(pl_module, GenerativeModule)
        now = time.monotonic()
        if not trainer.is_global_zero or now - self._shown < (self.refresh if self._bar else self.every_seconds):
            return
        self._shown = now
        began, images = self._began
        rate = (pl_module.clock.images - images) / max(now - began, 1e-9)
        budget = self._budget(trainer, pl_module)
        done = f"{pl_module.clock.kimg:.1f}/{budget / 1000:g} kimg"
        numbers = f"{rate / 1000:.3g} kimg/s  {self._numbers(trainer)}"
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=pl_module.clock.images, done=done, numbers=numbers)
        else:
            left = (budget - pl_module.clock.images) / max(rate, 1e-9)
            self.console.print(f"{done}  {numbers}  {left / 60:.1f} min left", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the full bar on the screen."""
        self._stop(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back before the error is shown."""
        self._stop(pl_module)

    def _stop(self, module: pl.LightningModule) -> None:
        if self._bar:
            assert isinstance(module, GenerativeModule)
            self._bar.update(self._bar.task_ids[0], completed=module.clock.images, done=f"{module.clock.kimg:g} kimg")
            self._bar.stop()
            self._bar = None

    @staticmethod
    def _budget(trainer: pl.Trainer, module: GenerativeModule) -> int:
        stream: Any = trainer.datamodule  # type: ignore[attr-defined]
        return module.clock.images + (trainer.max_steps - trainer.global_step) * stream.images_per_step

    @staticmethod
    def _numbers(trainer: pl.Trainer) -> str:
        shown = []
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Log):
                shown += [f"{k} {v:.3f}" for k, v in callback.latest.items() if k.startswith("loss")]
            if isinstance(callback, Metrics):
                shown += [f"{k} {v:.4g}" for k, v in list(callback.latest.items())[:1]]
        return "  ".join(shown)
