"""Scores during training, of the averaged model, on the images axis."""

from __future__ import annotations

import json
from pathlib import Path

import pytorch_lightning as pl
from jsonargparse.typing import PositiveInt

from lightning_gen import files, images, loggers, records, registry
from lightning_gen.callbacks.timed import Timed, record
from lightning_gen.metrics.evaluation import Panel, evaluate
from lightning_gen.metrics.passport import library_versions
from lightning_gen.module import GenerativeModule

USUAL = ("fid", "is", "modes", "points", "digits", "psnr")
"""Metrics that are tried where nobody names any."""


class Metrics(Timed):
    """Scores samples against the training data.

    Args:
        every_kimg: Thousands of images between two evaluations; 0 evaluates never.
        names: Registered metrics. Those that the data, the extractor or so few samples do not allow are left out, with
            one line if they were asked for.
        extractor: Registered extractor whose features are compared.
        resize: How images get to the extractor's size, one of its `resizes`; its usual one where left out.
        weights: File with the extractor's weights, where it does not find them by itself.
        samples: Images drawn from the model for each evaluation.
        seed: Names the latents; not the stream of the sample grids.
    """

    def __init__(
        self,
        every_kimg: float | None = None,
        names: tuple[str, ...] = USUAL,
        extractor: str = "tiny",
        resize: str | None = None,
        weights: str | None = None,
        samples: PositiveInt = 2000,
        seed: int = 1,
    ):
        super().__init__(every_kimg or 0.0)
        self.names = tuple(names)
        self.extractor_name = extractor
        self.resize = resize
        self.weights = weights
        self.samples = samples
        self.seed = seed
        self.latest: dict[str, float] = {}
        self.scored_at = -1
        """The clock at the newest evaluation."""
        # kept out of the module tree: an extractor must not enter checkpoints, parameters or broadcasts
        self._panel: Panel | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find weights and reference before training starts: what is missing is said now, not an hour later."""
        if self.every_kimg <= 0:
            return
        extractor = registry.make(self.extractor_name, "extractors", weights=self.weights, resize=self.resize)
        extractor.to(trainer.strategy.root_device)
        source = trainer.datamodule.source  # type: ignore[attr-defined]
        self._panel = Panel.of(source, extractor, self.names, n=self.samples)
        self._panel.prepare()
        if trainer.is_global_zero and self.names != USUAL:
            for name, reason in self._panel.left_out.items():
                print(f"metric {name} is left out: {reason}")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Off when the interval is 0."""
        if self._panel is None or not self._panel.scores:
            return
        assert isinstance(pl_module, GenerativeModule)
        subject = {"averaged": pl_module.has_averages, "libraries": library_versions(pl_module.origin)}
        passport = self._panel.passport(self.samples, "nearest", seed=self.seed, **subject)
        if trainer.is_global_zero:
            stated = passport.to_json()
            files.write(Path(trainer.default_root_dir) / "passport.json", json.dumps(stated, indent=1))
            rows = [("digest", passport.digest()), *((name, json.dumps(value)) for name, value in stated.items())]
            for logger in trainer.loggers:
                loggers.table(logger, "passport", ("field", "value"), rows, pl_module.clock.images)
        super().on_train_start(trainer, pl_module)

    def act(self, trainer: pl.Trainer, module: GenerativeModule) -> None:
        """Every rank draws its share and gets the same numbers."""
        if self._panel is None or not self._panel.scores:
            return
        kind = self._panel.reference.source.kind
        try:
            (self.latest,) = evaluate(
                lambda count, start: images.as_stored(module.sample(count, seed=self.seed, start=start), kind),
                [self._panel],
                self.samples,
                labels=module.asked_labels(self.samples, seed=self.seed),
            )
        except images.NotFinite:
            # a diverged model ends the curve, not the run: the records show null where a score would stand
            self.latest = dict.fromkeys(self.latest, float("nan"))
        self.scored_at = module.clock.images
        record(trainer, module, self.latest)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All evaluations as one table, to trackers that take tables."""
        if not self.latest or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, GenerativeModule)
        found = [
            r for r in records.read(Path(trainer.default_root_dir) / "metrics.jsonl") if set(self.latest) <= set(r)
        ]
        rows = [[r["images_seen"], *(r[name] for name in self.latest)] for r in found]
        for logger in trainer.loggers:
            loggers.table(logger, "scores", ("images_seen", *self.latest), rows, pl_module.clock.images)
            loggers.outcome(logger, self.latest, self.scored_at)
