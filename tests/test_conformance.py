"""The conformance kit fails for a model that breaks a promise, and says which one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_gen.losses import minimax_d, non_saturating_g
from lightning_gen.module import GenerativeModule, StepOutput
from lightning_gen.testing import check_model


class Keeps(GenerativeModule):
    """Keeps all promises.

    Args:
        image_shape: (channels, height, width).
    """

    latent_dim = 4

    def __init__(self, image_shape: tuple[int, int, int] = (1, 8, 8)):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.image_shape = tuple(image_shape)
        self.generator = nn.Sequential(nn.Linear(self.latent_dim, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
        self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
        self.register_buffer("drawn", torch.zeros(()))
        self.average("generator", 1.0)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(network.parameters(), 1e-2) for network in (self.discriminator, self.generator)]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        with self.update(opt_d) as step:
            for real in step.parts(batch["image"]):
                loss_d = self.loss_d(real)
                self.backward_of(step, loss_d)
        with self.update(opt_g) as step:
            for real in step.parts(batch["image"]):
                loss_g = self.loss_g(len(real))
                step.backward(loss_g)
        return self.step_output(len(batch["image"]), loss_d=loss_d, loss_g=loss_g)

    def loss_d(self, real: Tensor) -> Tensor:
        fake = self.generator(self.randn(len(real), self.latent_dim))
        return minimax_d(self.discriminator(real), self.discriminator(fake))

    def loss_g(self, n: int) -> Tensor:
        return non_saturating_g(self.discriminator(self.generator(self.randn(n, self.latent_dim))))

    def backward_of(self, step: Any, loss: Tensor) -> None:
        step.backward(loss)

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return self.averaged("generator")(latents)


class PastTheStep(Keeps):
    __doc__ = Keeps.__doc__

    def backward_of(self, step: Any, loss: Tensor) -> None:
        loss.backward()


class PastTheUpdate(Keeps):
    __doc__ = Keeps.__doc__

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = (wrapped.optimizer for wrapped in self.optimizers())
        losses = []
        for optimizer, loss in ((opt_d, lambda: self.loss_d(batch["image"])), (opt_g, lambda: self.loss_g(4))):
            optimizer.zero_grad()
            losses.append(loss())
            losses[-1].backward()
            optimizer.step()
        return self.step_output(len(batch["image"]), loss_d=losses[0], loss_g=losses[1])


class SamplesTheLastStep(Keeps):
    __doc__ = Keeps.__doc__

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return self.generator(latents)


class SamplesTheAverageAlone(Keeps):
    __doc__ = Keeps.__doc__

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return self.generator_ema(latents)


class IgnoresLabels(Keeps):
    __doc__ = Keeps.__doc__

    num_classes = 3


class CountsWhatItDraws(Keeps):
    __doc__ = Keeps.__doc__

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        self.drawn += len(latents)
        return super().generate(latents)


def test_a_model_that_keeps_its_promises_passes() -> None:
    check_model(Keeps)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (PastTheStep, "trained past `self.update`"),
        (PastTheUpdate, "trained past `self.update`"),
        (SamplesTheLastStep, "not from the average"),
        (SamplesTheAverageAlone, "samples of the raw weights"),
        (IgnoresLabels, "another label gives the same images"),
        (CountsWhatItDraws, "sample changes drawn"),
    ],
)
def test_a_broken_promise_is_named(model: type[Keeps], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_model(model)
