"""The health rules, live: fed from training steps and from samples, the same decision on every rank."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, OpenUnitInterval, PositiveInt
from torch import Tensor

from lightning_gen import checkpoints, images, loggers, records, watch
from lightning_gen.callbacks.log import scalars
from lightning_gen.callbacks.metrics import Metrics
from lightning_gen.callbacks.timed import Timed, record
from lightning_gen.clock import Clock
from lightning_gen.metrics.extractors import Tiny
from lightning_gen.metrics.variety import Yardstick
from lightning_gen.module import GenerativeModule, StepOutput

SETTLED = 0.015
"""Share of the budget before the first look: of a long run the beginning is longer."""

EARLY = 0.1
"""Share of the budget in which looks are frequent."""


class Watch(Timed):
    """Watches a run for collapse and divergence; what the rules say goes to the console and to events.jsonl.

    Stands before `checkpoint`, which asks it whether the weights are worth keeping as healthy.ckpt.

    Args:
        every_kimg: Thousands of images between two checks; 0 watches nothing.
        looks: Every how many checks the averaged model's samples are looked at as well; five times as often in the
            first tenth of the run, where the most can be saved.
        looks_after_kimg: Thousands of images before the first look, since an untrained generator draws one image only;
            looks are at least a quarter of it apart.
        samples: Samples of a look, and real images that they are compared with.
        action: What a verdict that a run is lost does: warn; stop, with exit code 3; or rollback with lower learning
            rates: to the beginning in the first half of the run, to the best checkpoint where a score was lost, else to
            the last healthy one.
        rollbacks: Most rollbacks of one run; after them it stops.
        lr_cut: What learning rates are multiplied by at each rollback.
    """

    def __init__(
        self,
        every_kimg: float | None = None,
        looks: PositiveInt = 50,
        looks_after_kimg: NonNegativeFloat = 4.0,
        samples: PositiveInt = 128,
        action: Literal["warn", "stop", "rollback"] = "stop",
        rollbacks: NonNegativeInt = 3,
        lr_cut: OpenUnitInterval = 0.3,
    ):
        super().__init__(every_kimg or 0.0)
        self.looks = looks
        self.looks_after_kimg = looks_after_kimg
        self.samples = samples
        self.action = action
        self.rollbacks = rollbacks
        self.lr_cut = lr_cut
        self.rules = watch.Watch()
        self.verdict: watch.Verdict | None = None
        """What ended the run."""
        self.introduced = False
        """Whether it was said which rules see nothing."""
        self.troubled = False
        """Whether some rule spoke since the last healthy checkpoint was taken."""
        self._outputs: dict[str, Any] = {}
        self._labels: Tensor | None = None
        self._eyes: Tiny | None = None
        self._real: Tensor | None = None
        """Real images (N, C, H, W) in [-1, 1] that samples are compared with."""
        self._measured: tuple[Tensor, Yardstick] | None = None
        """Those as the model could draw them when they were measured last, and what was found."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take real images to compare with; keep the untrained model, the one to go back to where nothing better
        follows, or, of a run that is resumed without one, the model as it is."""
        assert isinstance(pl_module, GenerativeModule)
        source = trainer.datamodule.source  # type: ignore[attr-defined]
        # a model that maximises a likelihood has no game to lose modes in, and its early samples are blurred and alike
        if self.every_kimg > 0 and source.kind == "image" and not pl_module.automatic_optimization:
            # an object of its own, outside the module tree: it must not enter checkpoints or broadcasts
            self._eyes = Tiny().to(pl_module.device)
            rows = torch.linspace(0, len(source) - 1, min(self.samples, len(source))).long().unique()
            if len(rows) > 2:
                self._real = images.from_uint8(source.read(rows.numpy())["image"].to(pl_module.device))
        if self.every_kimg > 0 and self.action == "rollback":
            folder = Path(trainer.default_root_dir) / "checkpoints"
            untrained = pl_module.clock.images == 0
            # ranks save together, so they must not each look while the first one writes
            if untrained or not trainer.strategy.broadcast((folder / "healthy.ckpt").exists(), src=0):
                trainer.save_checkpoint(folder / "healthy.ckpt")
            if untrained and trainer.is_global_zero:
                checkpoints.also_named(folder / "healthy.ckpt", folder / checkpoints.UNTRAINED)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Keep what the step returned, count its labels, and check where the clock says so."""
        assert isinstance(pl_module, GenerativeModule)
        self._outputs, batch = args[0], args[1]
        if self.every_kimg > 0 and pl_module.num_classes > 1 and "label" in batch:
            counts = torch.bincount(batch["label"], minlength=pl_module.num_classes)
            self._labels = counts if self._labels is None else self._labels.to(counts) + counts
        super().on_train_batch_end(trainer, pl_module, *args)

    def act(self, trainer: pl.Trainer, module: GenerativeModule) -> None:
        """Ask the rules on rank 0 and do on all ranks what they say."""
        values = scalars(self._outputs)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Metrics) and callback.scored_at == module.clock.images:
                values |= callback.latest
        measured = self._look(trainer, module) if self._looks_now(module.clock) else {}
        if self._labels is not None:
            shares = self._labels.double() / self._labels.sum()
            measured["label_perplexity"] = float(torch.special.entr(shares).sum().exp())
            self._labels = None
        if measured:  # `lgen watch` judges by the records alone, and is to know of it
            record(trainer, module, measured)
        verdicts = self.rules.observe(watch.Record(module.clock.images, values | measured))
        if not self.introduced and module.clock.images > 0:
            self._introduce(trainer)
        # the values of ranks differ (each has its own losses): what rank 0 saw is what all of them do
        verdicts = trainer.strategy.broadcast(verdicts, src=0)
        for verdict in verdicts:
            self._tell(trainer, module, verdict)
        self.troubled = self.troubled or bool(verdicts)
        fatal = next((verdict for verdict in verdicts if verdict.severity == "stop"), None)
        if fatal is not None and self.action != "warn":
            self.verdict = fatal
            trainer.should_stop = True

    def _introduce(self, trainer: pl.Trainer) -> None:
        """Say once which rules this model gives nothing to judge by: silence must not be taken for health."""
        self.introduced = True
        blind = [name for name, reads in self.rules.idle().items() if set(reads) & StepOutput.__annotations__.keys()]
        if blind and trainer.is_global_zero:
            print(f"the watch cannot judge by {', '.join(blind)}: the model's steps return nothing to judge by")

    def _looks_now(self, clock: Clock) -> bool:
        begun = clock.kimg >= self.looks_after_kimg and clock.images >= SETTLED * clock.budget
        early = clock.images <= EARLY * clock.budget
        every = round(1000 * self.every_kimg) / 1000  # whole images, as checks have it: looks are some of the checks
        apart = math.ceil(self.looks_after_kimg / 4 / every) if every else 1
        return begun and clock.passed(every * max(1, apart, self.looks // 5 if early else self.looks))

    def _look(self, trainer: pl.Trainer, module: GenerativeModule) -> dict[str, float]:
        """Each rank looks at the same samples: no collective, and a few images a hundred times a run."""
        if self._real is None or self._eyes is None:
            return {}
        # more translations than there are pictures to translate would begin again, and be duplicates by no fault
        source = trainer.datamodule.source  # type: ignore[attr-defined]
        n = min(self.samples, len(source)) if module.translates else self.samples
        try:
            pixels = images.to_uint8(module.sample(n, seed=2))
        except images.NotFinite:
            return {"fid/tiny": float("nan")}  # there is no score of such samples
        return self._yardstick(module).compare(self._eyes(pixels), module.asked_labels(n, seed=2))

    def _yardstick(self, module: GenerativeModule) -> Yardstick:
        """Measured again while the model grows: at 4x4 pixels photographs differ little and are near-duplicates."""
        assert self._real is not None
        assert self._eyes is not None
        drawn = module.as_drawn_now(self._real)
        if self._measured is None or self._measured[0] is not drawn:
            self._measured = (drawn, Yardstick.of(self._eyes(images.to_uint8(drawn))))
        return self._measured[1]

    def _tell(self, trainer: pl.Trainer, module: GenerativeModule, verdict: watch.Verdict) -> None:
        if not trainer.is_global_zero:
            return
        action = self.action if verdict.severity == "stop" else "warn"
        if action == "rollback" and module.rollbacks >= self.rollbacks:
            action = "stop"
        attempt = next((logger.attempt for logger in trainer.loggers if isinstance(logger, records.RecordLogger)), 0)
        records.append(
            Path(trainer.default_root_dir) / "events.jsonl",
            {
                "images_seen": module.clock.images,
                "step": trainer.global_step,
                "rule": verdict.rule,
                "severity": verdict.severity,
                "action": action,
                "message": verdict.message,
                "values": {k: v if math.isfinite(v) else None for k, v in verdict.values.items()},
                "attempt": attempt,
            },
        )
        for logger in trainer.loggers:
            loggers.alarm(logger, verdict.rule, verdict.message, module.clock.images)
        print(f"\n{'WARNING' if action == 'warn' else action.upper()}  {verdict.message}", flush=True)

    def state_dict(self) -> dict[str, Any]:
        """A resumed run knows the history that the rules compare with."""
        return {
            "rules": self.rules.state_dict(),
            "troubled": self.troubled,
            "introduced": self.introduced,
            "labels": self._labels,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.rules.load_state_dict(state_dict["rules"])
        self.troubled, self.introduced = state_dict["troubled"], state_dict["introduced"]
        self._labels = state_dict.get("labels")
