"""Scores during training, of the averaged model, on the images axis."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from lightning_gen import registry
from lightning_gen.callbacks.timed import Timed, record
from lightning_gen.images import NotFinite
from lightning_gen.metrics.evaluation import evaluate
from lightning_gen.metrics.extractors import Extractor
from lightning_gen.module import GenerativeModule


class Metrics(Timed):
    """Scores samples against the training data.

    Args:
        every_kimg: Thousands of images between two evaluations; 0 evaluates never.
        names: Registered metrics. Those that the data or the extractor does not allow are left out, with one line.
        extractor: Registered extractor whose features are compared.
        weights: File with the extractor's weights, where it does not find them by itself.
        samples: Images drawn from the model for each evaluation.
        seed: Names the latents; not the stream of the sample grids.
    """

    def __init__(
        self,
        every_kimg: float | None = None,
        names: tuple[str, ...] = ("fid", "is", "modes"),
        extractor: str = "tiny",
        weights: str | None = None,
        samples: int = 2000,
        seed: int = 1,
    ):
        super().__init__(every_kimg or 0.0)
        self.names = tuple(names)
        self.extractor_name = extractor
        self.weights = weights
        self.samples = samples
        self.seed = seed
        self.latest: dict[str, float] = {}
        self.scored_at = -1
        """The clock at the newest evaluation."""
        self._extractor: Extractor | None = None
        self._scores: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find weights and reference before training starts: what is missing is said now, not an hour later."""
        if self.every_kimg <= 0:
            return
        source = trainer.datamodule.source  # type: ignore[attr-defined]
        extractor_class = registry.load(self.extractor_name, "extractors")
        # kept out of the module tree: it must not enter checkpoints, parameters or broadcasts
        self._extractor = extractor_class(weights=self.weights) if self.weights else extractor_class()
        self._extractor.to(trainer.strategy.root_device)
        for name in self.names:
            score_class = registry.load(name, "metrics")
            reason = score_class.unfit(source, self._extractor)
            if reason and trainer.is_global_zero:
                print(f"metric {name} is left out: {reason}")
            if not reason:
                self._scores.append(score_class(source, self._extractor))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Off when the interval is 0."""
        if self._scores:
            super().on_train_start(trainer, pl_module)

    @torch.no_grad()
    def act(self, trainer: pl.Trainer, module: GenerativeModule) -> None:
        """Every rank draws its share and gets the same numbers."""
        assert self._extractor is not None
        try:
            self.latest = evaluate(
                lambda count, start: module.sample(count, seed=self.seed, start=start),
                self._extractor,
                self._scores,
                self.samples,
            )
        except NotFinite:
            # a diverged model ends the curve, not the run: the records show null where a score would stand
            self.latest = dict.fromkeys(self.latest, float("nan"))
        self.scored_at = module.clock.images
        record(trainer, module, self.latest)
