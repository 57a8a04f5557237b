"""Grids of samples from fixed latents: the same images, growing up."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from jsonargparse.typing import PositiveInt

from lightning_gen import images, loggers
from lightning_gen.callbacks.timed import Timed
from lightning_gen.module import GenerativeModule

POINTS = 40
"""Points that are drawn in the place of one image."""


class Samples(Timed):
    """Writes samples/*.png into the run directory and the same picture to every logger that takes pictures.

    Args:
        every_kimg: Thousands of images between two grids; 0 draws none.
        count: Images in a grid; points are drawn 40 times as many, as dots in one plane. Of a translation each image
            stands between the one that it was made of and, where there is one, the one that it should be.
        seed: Names the latents.
    """

    def __init__(self, every_kimg: float | None = None, count: PositiveInt = 64, seed: int = 0):
        super().__init__(every_kimg or 0.0)
        self.count = count
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Off when the interval is 0."""
        if self.every_kimg > 0:
            super().on_train_start(trainer, pl_module)

    def act(self, trainer: pl.Trainer, module: GenerativeModule) -> None:
        """Every rank draws (a model may communicate); rank 0 writes."""
        kind = module.origin.get("kind", "image")
        drawn = module.sample(POINTS * self.count if kind == "points" else self.count, seed=self.seed)
        if not trainer.is_global_zero:
            return
        # a model that has diverged draws NaN: show it black rather than end the run over a picture
        drawn = torch.nan_to_num(drawn, nan=-1.0)
        if module.translates:
            source = trainer.datamodule.source  # type: ignore[attr-defined]
            shown = source.examples(self.count, seed=self.seed)
            wanted = [shown[module.views[1]]] if source.paired else []
            picture = images.beside([shown[module.views[0]], images.to_uint8(drawn).cpu(), *wanted])
        else:
            picture = images.sheet(images.as_stored(drawn, kind).cpu(), kind)
        folder = Path(trainer.default_root_dir) / "samples"
        images.save_png(images.enlarge(picture), folder / f"{module.clock.images:012d}.png")
        for logger in trainer.loggers:
            loggers.picture(logger, "samples", picture, module.clock.images)
