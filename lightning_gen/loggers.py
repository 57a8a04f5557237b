"""Trackers that a run reports to besides its own records."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from lightning_gen import files

PATIENCE = 10.0
"""Seconds that Weights & Biases may take to begin; by itself it would hold a run up for 100 without a network."""


def make(names: Sequence[str], out: Path, attempt: int, say: Callable[[str], Any]) -> list[Logger]:
    """The asked-for loggers of the run in `out`. One that cannot begin is left out, and `say` is told why: a tracker
    is no reason to lose a run."""
    made: list[Logger] = []
    for name in names:
        if name == "tensorboard":
            made.append(TensorBoardLogger(out, name="", version="tensorboard", default_hp_metric=False))
        elif name == "csv":
            # an existing version is deleted by the logger, so each attempt writes its own
            made.append(CSVLogger(out, name="csv", version=attempt))
        elif name == "wandb":
            try:
                made.append(_wandb(out))
            except Exception as reason:  # wandb raises its own UsageError, CommError, and what its service raises
                said = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
                say(f"WARNING  Weights & Biases cannot start, the run goes on without it: {said}")
                say("  `wandb login` once, or set WANDB_MODE=offline and sync later")
    return made


def _wandb(out: Path) -> Logger:
    """Imported only here, only when named. A resumed run goes on in the same run of the tracker."""
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    named = out / "wandb" / "lgen-run-id"
    if not named.exists():
        named.parent.mkdir(exist_ok=True)
        files.write(named, secrets.token_hex(4))
    logger = WandbLogger(
        project=os.environ.get("WANDB_PROJECT", "lightning_gen"),
        name=out.name,
        id=named.read_text(encoding="utf-8"),
        resume="allow",
        save_dir=out,
        settings=wandb.Settings(init_timeout=PATIENCE),
    )
    # created now: without a key or a network it fails here, before any training
    logger.experiment.define_metric("images_seen")
    logger.experiment.define_metric("*", step_metric="images_seen")
    return logger
