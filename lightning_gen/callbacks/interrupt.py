"""SIGINT, SIGTERM and SLURM's pre-emption signal: finish the batch, save, stop; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from lightning_gen.signals import SIGNALS

EVERY = 8
"""Of several processes each may be the one that was told; they ask each other only at every eighth step."""


class Stopped(BaseException):
    """A signal came before the first step, where there is nothing to save and the first scores may take minutes.

    No Exception: whatever computes at that moment must not take it for a failure of its own.
    """


class Interrupt(pl.Callback):
    """Lets the batch finish, writes last.ckpt and ends the run. Stands behind `checkpoint`, whose file it replaces.

    Lightning by itself ends at once with code 1 on SIGINT and 0 on SIGTERM, and saves nothing. A context: signals are
    ours inside.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        """Name of the signal that ended the run."""
        self._training = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
        self.listen()
        return self

    def __exit__(self, *reason: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def listen(self) -> None:
        """Set our handlers, once more after Lightning has set its own, which it takes back when training ends."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a batch follows, after which there is something to save."""
        self.listen()
        self._training = True
        if self.received is not None:  # raised where Python lets nothing through, in a `__del__` say
            raise Stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = signal.Signals(number).name
        if not self._training:
            raise Stopped

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Decide on all ranks at the same step: one that stopped alone would leave the others waiting for ever."""
        told = self.received is not None
        if trainer.world_size > 1:
            if trainer.global_step % EVERY:
                return
            told = trainer.strategy.reduce_boolean_decision(told, all=False)
        if told and not trainer.should_stop:
            self.received = self.received or "another process's signal"
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
            trainer.should_stop = True


class Listen(pl.Callback):
    """Stands before all other callbacks: Lightning's handlers, which make the processes wait for each other, are gone
    before the first scores are computed."""

    def __init__(self, interrupt: Interrupt):
        self.interrupt = interrupt

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After Lightning has set them."""
        self.interrupt.listen()
