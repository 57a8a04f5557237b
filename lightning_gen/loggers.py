"""Trackers that a run reports to besides its own records, and what each of them is told, in its own way."""

from __future__ import annotations

import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from lightning_gen import files

PATIENCE = 5.0
"""Seconds that the server of Weights & Biases may take to answer; by itself its client would hold a run up for 100."""


class Wandb(WandbLogger):
    """On the axis of images seen, which Lightning's would call steps of the trainer."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """One record at `step` images."""
        self.experiment.log({**metrics, "images_seen": step})


def make(names: Sequence[str], out: Path, attempt: int, say: Callable[[str], Any]) -> list[Logger]:
    """The asked-for loggers of the run in `out`. One that cannot begin is left out, and `say` is told why: a tracker
    is no reason to lose a run."""
    made: list[Logger] = []
    for name in names:
        if name == "tensorboard":
            made.append(TensorBoardLogger(out, name="", version="tensorboard", default_hp_metric=False))
        elif name == "csv":
            # an existing version is deleted by the logger, so each attempt writes its own
            # written at every record: its own rule counts steps, which are images here
            made.append(CSVLogger(out, name="csv", version=attempt, flush_logs_every_n_steps=1))
        elif name == "wandb":
            try:
                made.append(_wandb(out, say))
            except Exception as reason:  # wandb raises its own UsageError, CommError, and what its service raises
                said = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
                say(f"WARNING  Weights & Biases cannot start, the run goes on without it: {said}")
                say("  `wandb login` once, or set WANDB_MODE=offline and sync later")
    return made


def settings(logger: Logger, values: dict[str, Any], versions: Mapping[str, Any]) -> None:
    """What the run is made of: all settings, and the versions of the code."""
    if isinstance(logger, WandbLogger):
        logger.experiment.config.update({**values, "versions": dict(versions)}, allow_val_change=True)
    elif isinstance(logger, TensorBoardLogger):
        logger.hparams.update(values)
        text(logger, "settings", f"```yaml\n{yaml.safe_dump(values, sort_keys=False)}```", 0)
        text(logger, "versions", f"```yaml\n{yaml.safe_dump(dict(versions))}```", 0)


def outcome(logger: Logger, scores: Mapping[str, float], images_seen: int) -> None:
    """The final scores, measured at `images_seen`, beside the settings, where TensorBoard compares runs (HPARAMS)."""
    if isinstance(logger, TensorBoardLogger):
        # it draws them as points of their curves too
        logger.log_hyperparams(logger.hparams, dict(scores), images_seen)


def picture(logger: Logger, key: str, shown: Tensor, images_seen: int) -> None:
    """A picture (C, H, W) uint8, where there is a way to take one."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(key, shown, images_seen)
    elif isinstance(logger, WandbLogger):
        import wandb

        image = wandb.Image(shown.permute(1, 2, 0).numpy(), caption=f"{images_seen / 1000:g} kimg")
        logger.experiment.log({key: image, "images_seen": images_seen})


def table(logger: Logger, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], images_seen: int) -> None:
    """A table, where there is a way to take one."""
    if isinstance(logger, WandbLogger):
        import wandb

        made = wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
        logger.experiment.log({key: made, "images_seen": images_seen})
    else:
        lines = [list(columns), ["---"] * len(columns), *rows]
        text(logger, key, "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines), images_seen)


def text(logger: Logger, key: str, markdown: str, images_seen: int) -> None:
    """A few lines of Markdown, where there is a place for them."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text(key, markdown, images_seen)


def alarm(logger: Logger, rule: str, message: str, images_seen: int) -> None:
    """What the watch says of a run that is ill."""
    if isinstance(logger, WandbLogger):
        logger.experiment.alert(title=f"{rule} at {images_seen / 1000:g} kimg", text=message)
    else:
        text(logger, f"watch/{rule}", message, images_seen)


def _wandb(out: Path, say: Callable[[str], Any]) -> Logger:
    """Imported only here, only when named. A resumed run goes on in the same run of the tracker."""
    import wandb

    named = out / "wandb" / "lgen-run-id"
    if not named.exists():
        named.parent.mkdir(exist_ok=True)
        files.write(named, secrets.token_hex(4))
    known = wandb.setup().settings
    offline = known.mode == "offline"
    if known.mode == "online" and (silence := _silence(known.base_url)):
        offline = True
        say(f"WARNING  {known.base_url} does not answer ({silence}): this run is kept offline")
        say(f"  later: wandb sync {out / 'wandb'}/offline-run-*")
    logger = Wandb(
        project=os.environ.get("WANDB_PROJECT", "lightning_gen"),
        name=out.name,
        id=named.read_text(encoding="utf-8"),
        resume="allow",
        save_dir=out,
        settings=wandb.Settings(init_timeout=PATIENCE, mode="offline" if offline else known.mode),
    )
    # created now: without a key it fails here, before any training
    logger.experiment.define_metric("images_seen")
    logger.experiment.define_metric("*", step_metric="images_seen")
    return logger


def _silence(address: str) -> str:
    """Why a server cannot be reached; nothing if it says anything at all, an error included."""
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE):
            return ""
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as reason:
        return str(getattr(reason, "reason", reason)) or type(reason).__name__
