"""Generative adversarial networks: Goodfellow et al., NeurIPS 2014, https://arxiv.org/abs/1406.2661

Original code (Theano, pylearn2): https://github.com/goodfeli/adversarial
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.layers import Maxout
from lightning_gen.losses import minimax_d, minimax_g, non_saturating_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput


def generator(latent_dim: int, width: int, image_shape: tuple[int, int, int]) -> nn.Sequential:
    """Latents (B, latent_dim) -> images (B, *image_shape) in [-1, 1], through two rectified layers."""
    return nn.Sequential(
        nn.Linear(latent_dim, width),
        nn.ReLU(inplace=True),
        nn.Linear(width, width),
        nn.ReLU(inplace=True),
        nn.Linear(width, math.prod(image_shape)),
        nn.Tanh(),  # the published code's sigmoid, for images in [-1, 1] instead of [0, 1]
        nn.Unflatten(1, image_shape),
    )


def discriminator(image_shape: tuple[int, int, int], width: int, dropout: tuple[float, float]) -> nn.Sequential:
    """Images (B, *image_shape) -> logits (B,), through two layers of `width` maxout units of five pieces."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Dropout(dropout[0]),
        Maxout(math.prod(image_shape), width, pieces=5),
        nn.Dropout(dropout[1]),
        Maxout(width, width, pieces=5),
        nn.Dropout(dropout[1]),
        nn.Linear(width, 1),
        nn.Flatten(0),
    )


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "width": 256,
    "discriminator_width": 64,
    "dropout": (0.0, 0.0),
    "optimizer": "adam",
    "lr": 1e-3,
    "betas": (0.0, 0.99),
    "penalty": 10.0,
    "ema_halflife_kimg": 20.0,
}


class GAN(GenerativeModule):
    """The first generative adversarial networks: fully connected, for images of any shape, and for points.

    The preset `paper` is the published code's for MNIST; `points` is for the mixtures of Gaussians of `--data points`.
    Differences from it: the discriminator's loss is the sum of its two terms and the networks take turns, each with
    latents of its own, as in algorithm 1, where the code has their mean and moves both networks at once; the momentum
    does not rise from 0.5 to 0.7 over the first 250 epochs, the learning rate does not shrink by a factor of 1.000004
    each step, the generator's last biases begin at 0, and its images lie in [-1, 1] by tanh, not in [0, 1] by sigmoid.
    The presets `quick` and `points` have Adam and no dropout; `quick` adds what the paper does not have, R1, without
    which it draws one shape.

    Args:
        image_shape: (channels, height, width), of any size.
        latent_dim: Length of the latent vector.
        width: Units of the generator's layers.
        discriminator_width: Maxout units of the discriminator's layers.
        dropout: Share of the discriminator's inputs and of its units that a training step leaves out.
        loss: What the generator minimises: ``minimax``, log(1 - D(G(z))) (equation 1), or ``non-saturating``,
            -log D(G(z)) (section 3), as in the paper's experiments.
        optimizer: ``sgd`` as in the paper, or ``adam``.
        lr: Learning rate of both networks.
        momentum: Of SGD.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update (k of algorithm 1).
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0, as in the paper, is none.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Goodfellow et al. 2014, Generative Adversarial Networks, https://arxiv.org/abs/1406.2661"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (1, 28, 28)},
        "quick": QUICK,
        "photographs": QUICK
        | {"latent_dim": 64, "lr": 2e-3, "betas": (0.5, 0.999), "penalty": 1.0, "ema_halflife_kimg": 5.0},
        "points": {
            "image_shape": (2, 1, 1),
            "latent_dim": 2,
            "width": 128,
            "discriminator_width": 64,
            "dropout": (0.0, 0.0),
            "optimizer": "adam",
            "lr": 1e-3,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 15000, "data.batch_size": 100},
        # rates that fall leave specks, which the average no longer smooths
        "quick": {"kimg": 400, "data.batch_size": 32},
        "photographs": {"kimg": 400, "data.batch_size": 64},
        "points": {"kimg": 2000, "data.batch_size": 512},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 1200,
        discriminator_width: PositiveInt = 240,
        dropout: tuple[Decay, Decay] = (0.2, 0.5),
        loss: Literal["minimax", "non-saturating"] = "non-saturating",
        optimizer: Literal["sgd", "adam"] = "sgd",
        lr: PositiveFloat = 0.1,
        momentum: Decay = 0.5,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        critic_steps: PositiveInt = 1,
        penalty: NonNegativeFloat = 0.0,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.image_shape = tuple(image_shape)
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        self.generator = generator(latent_dim, width, self.image_shape)
        self.discriminator = discriminator(self.image_shape, discriminator_width, dropout)
        self.generator_loss = minimax_g if loss == "minimax" else non_saturating_g
        if optimizer == "sgd":
            self.initialise()
        self.average("generator", ema_halflife_kimg)

    def initialise(self) -> None:
        """Uniform weights, as the published code has them: within 0.05 in the generator, 0.005 in the discriminator."""
        for network, bound in ((self.generator, 0.05), (self.discriminator, 0.005)):
            for weight in network.parameters():
                nn.init.uniform_(weight, -bound, bound) if weight.dim() > 1 else nn.init.zeros_(weight)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        own, networks = self.hparams, (self.discriminator, self.generator)
        if own.optimizer == "sgd":
            return [torch.optim.SGD(network.parameters(), own.lr, own.momentum) for network in networks]
        return [torch.optim.Adam(network.parameters(), own.lr, own.betas) for network in networks]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        for images in batch["image"].chunk(self.critic_steps):
            with self.update(opt_d) as step_d:
                for real in step_d.parts(images):
                    fake = self.generator(self.randn(len(real), self.latent_dim))
                    real.requires_grad_(self.hparams.penalty > 0)
                    logits_real = self.discriminator(self.augmented(real))
                    logits_fake = self.discriminator(self.augmented(fake))
                    loss_d = minimax_d(logits_real, logits_fake)
                    if self.hparams.penalty > 0:
                        loss_d = loss_d + self.hparams.penalty * zero_centred_penalty(logits_real, real)
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real in step_g.parts(images):
                fake = self.generator(self.randn(len(real), self.latent_dim))
                loss_g = self.generator_loss(self.discriminator(self.augmented(fake)))
                step_g.backward(loss_g)
        return self.step_output(
            len(batch["image"]),
            loss_d=loss_d,
            loss_g=loss_g,
            logits_real=logits_real,
            logits_fake=logits_fake,
            grad_norm_d=step_d.grad_norm,
            grad_norm_g=step_g.grad_norm,
        )

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return self.averaged("generator")(latents)
