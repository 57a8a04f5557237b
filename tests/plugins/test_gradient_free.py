"""A model without optimizers: the contract has room for what is fitted by counting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_gen.module import GenerativeModule, StepOutput
from lightning_gen.testing import check_model


class Average(GenerativeModule):
    """Draws the mean of all images so far, and noise.

    Args:
        image_shape: (channels, height, width).
    """

    mean: Tensor
    latent_dim = 1

    def __init__(self, image_shape: tuple[int, int, int] = (1, 8, 8)):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.image_shape = image_shape
        self.register_buffer("mean", torch.zeros(image_shape))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        real = batch["image"]
        seen = self.clock.images
        self.mean = (self.mean * seen + real.sum(0)) / (seen + len(real))
        return self.step_output(len(real), loss=(real - self.mean).square().mean())

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return (self.mean + 0.1 * latents[:, :, None, None]).clamp(-1, 1)


def test_a_model_that_takes_no_gradient_keeps_the_whole_contract() -> None:
    check_model(Average)  # a step without an update counts as one, or the run would not end
