"""Signals that end a run: the process that trains hears them, and those that load its data leave them to it."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""SIGUSR1 is what SLURM sends before it takes a machine away, where a job asks for it (`--signal=USR1@90`)."""


def leave_to_the_run(worker: int) -> None:
    """For a data loader's `worker_init_fn`: a terminal and SLURM signal every process of a run, and a loader that ended
    with the first signal would take from the run the batch after which it saves. A second signal ends it, as
    PyTorch and Python do with a loader that does not end by itself."""
    for number in SIGNALS:
        signal.signal(number, _pass_over)


def _pass_over(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
