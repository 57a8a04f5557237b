"""Checkpoints on the image clock: the last, the best so far, and with the last one the end of the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lightning_gen.callbacks.metrics import Metrics
from lightning_gen.callbacks.timed import Timed
from lightning_gen.callbacks.watch import Watch
from lightning_gen.checkpoints import CANDIDATES, also_named, forget_candidates
from lightning_gen.errors import UserError, nearest
from lightning_gen.metrics.directions import rises
from lightning_gen.module import GenerativeModule


class Checkpoint(Timed):
    """Writes checkpoints/last.ckpt, best.ckpt when the watched score is better than ever before, and healthy.ckpt.

    Stands after `metrics` in the list of callbacks, so the score it sees belongs to the weights it saves.

    Args:
        every_kimg: Thousands of images between two checkpoints; with 0 there is one, at the end.
        monitor: Score that decides which is best: the lowest, or the highest where more is better, as of `psnr`; the
            first Fréchet distance where left out.
    """

    def __init__(self, every_kimg: float | None = None, monitor: str | None = None):
        super().__init__(every_kimg or 0.0)
        self.monitor = monitor
        self.best = float("inf")
        """The best score; of one of which more is better its negative."""
        self.of: list[Any] = []
        """Which score that is, and of how many samples: a resumed run may watch another."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The untrained model is not worth a file, but its scores tell whether there is one of the monitor's name.

        Raises:
            UserError: there is none.
        """
        self._refuse_unknown(trainer)

    def _refuse_unknown(self, trainer: pl.Trainer) -> None:
        found = [callback for callback in trainer.callbacks if isinstance(callback, Metrics)]  # type: ignore[attr-defined]
        names = [name for callback in found for name in callback.latest]
        if self.monitor and names and self.monitor not in names:
            raise UserError(
                f"--checkpoint.monitor {self.monitor}: the run has no such score{nearest(self.monitor, names)} "
                f"(it has {', '.join(names)})"
            )

    def due(self, trainer: pl.Trainer, module: GenerativeModule) -> bool:
        """What was trained is saved, whatever the interval."""
        return super().due(trainer, module) or trainer.global_step == trainer.max_steps

    def act(self, trainer: pl.Trainer, module: GenerativeModule) -> None:
        """Save on every rank together; rank 0 writes.

        Raises:
            UserError: there are scores, and none of the monitor's name.
        """
        folder = Path(trainer.default_root_dir) / "checkpoints"
        score = self._score(trainer, module)
        better = score is not None and score < self.best
        if better:
            assert score is not None
            self.best = score  # before saving: the file must know it is the best
            trainer.save_checkpoint(folder / "best.ckpt")
        trainer.save_checkpoint(folder / "last.ckpt")
        if trainer.is_global_zero:
            self._keep_healthy(trainer, folder)
        self._refuse_unknown(trainer)  # of a resumed run the first scores come now

    def _keep_healthy(self, trainer: pl.Trainer, folder: Path) -> None:
        """A checkpoint becomes healthy.ckpt once the watch was silent for two more: trouble shows late, since rules
        look back over records and over looks.

        The files are further names of what last.ckpt was, which costs no second write: every checkpoint is a new file.
        """
        watch = next((c for c in trainer.callbacks if isinstance(c, Watch)), None)  # type: ignore[attr-defined]
        if watch is None or watch.every_kimg <= 0:
            return
        newer, older = (folder / name for name in CANDIDATES)
        if watch.troubled:
            forget_candidates(folder)
        for source, target in ((older, folder / "healthy.ckpt"), (newer, older)):
            if source.exists():
                os.replace(source, target)
        watch.troubled = False
        also_named(folder / "last.ckpt", newer)

    def _score(self, trainer: pl.Trainer, module: GenerativeModule) -> float | None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Metrics) and callback.scored_at == module.clock.images:
                watched = self.monitor or next((name for name in callback.latest if name.startswith("fid/")), "")
                score = callback.latest.get(watched)
                if score is not None and self.of != (of := [watched, callback.samples]):
                    self.best = float("inf") if self.of else self.best
                    self.of = of
                return -score if score is not None and rises(watched) else score
        return None

    def state_dict(self) -> dict[str, Any]:
        """The best score so far survives a resume."""
        return {"best": self.best, "of": self.of}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.best, self.of = state_dict["best"], state_dict.get("of", [])
