"""Conditional GAN: Mirza & Osindero, 2014, https://arxiv.org/abs/1411.1784"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen import noise
from lightning_gen.errors import without_labels
from lightning_gen.layers import Maxout
from lightning_gen.losses import minimax_d, non_saturating_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput


class Generator(nn.Module):
    """Section 4.1: latents (B, latent_dim) and labels (B,) -> images (B, *image_shape) in [-1, 1].

    Each has a rectified layer of its own (the paper's 200 and 1000 units), then both share one (1200).
    """

    def __init__(
        self, latent_dim: int, num_classes: int, width: int, dropout: float, image_shape: tuple[int, int, int]
    ):
        super().__init__()
        self.num_classes = num_classes
        free = max(1, width // 6)
        given = max(1, width - free)
        self.latent = nn.Linear(latent_dim, free)
        self.label = nn.Linear(num_classes, given)
        self.joint = nn.Linear(free + given, width)
        self.pixels = nn.Linear(width, math.prod(image_shape))
        self.dropout = nn.Dropout(dropout)
        self.shape = nn.Unflatten(1, image_shape)
        # hidden units of deviation 1 from either: one-hot rows as an embedding's, latents whose variance is 1/12
        nn.init.normal_(self.label.weight)
        nn.init.normal_(self.latent.weight, std=math.sqrt(12 / latent_dim))

    def forward(self, latents: Tensor, label: Tensor) -> Tensor:
        y = F.one_hot(label, self.num_classes).to(latents.dtype)
        hidden = self.dropout(F.relu(torch.cat([self.latent(latents), self.label(y)], dim=1)))
        hidden = self.dropout(F.relu(self.joint(hidden)))
        return self.shape(torch.tanh(self.pixels(hidden)))


class Discriminator(nn.Module):
    """Section 4.1: images (B, *image_shape) and labels (B,) -> logits (B,).

    Maxout layers for the image (the paper's 240 units of 5 pieces), for the label (50 of 5) and for both (240 of 4).
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, width: int, dropout: float):
        super().__init__()
        self.num_classes = num_classes
        beside = max(1, width * 5 // 24)
        self.image = Maxout(math.prod(image_shape), width, pieces=5)
        self.label = Maxout(num_classes, beside, pieces=5)
        self.joint = Maxout(width + beside, width, pieces=4)
        self.logit = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.label.linear.weight)

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        y = F.one_hot(label, self.num_classes).to(images.dtype)
        hidden = self.dropout(torch.cat([self.image(images.flatten(1)), self.label(y)], dim=1))
        return self.logit(self.dropout(self.joint(hidden))).squeeze(1)


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "num_classes": 48,
    "latent_dim": 16,
    "width": 240,
    "discriminator_width": 192,
    "dropout": 0.0,
    "optimizer": "adam",
    "lr": 1e-3,
    "betas": (0.0, 0.99),
    "penalty": 3.0,
    "ema_halflife_kimg": 20.0,
}


class CGAN(GenerativeModule):
    """Class-conditional: the label joins the latents in the generator and the image in the discriminator.

    Differences from the paper: the generator minimises the non-saturating loss in the place of equation 2's, its images
    lie in [-1, 1] by tanh, not in [0, 1] by sigmoid; latents are drawn from the unit hypercube as there, but fake
    images take the labels of the real batch, so that both have the data's frequencies; the learning rate does not
    shrink by a factor of 1.00004 each step, nor does the momentum rise to 0.7. The preset `quick` has Adam, no dropout,
    and what the paper does not have, R1.

    Args:
        image_shape: (channels, height, width), of any size.
        num_classes: Number of labels; the data says it.
        latent_dim: Length of the latent vector.
        width: Units of the generator's joint layer.
        discriminator_width: Maxout units of the discriminator's joint layer.
        dropout: Share of the units that a training step leaves out, in both networks.
        optimizer: ``sgd`` as in the paper, or ``adam``.
        lr: Learning rate of both networks.
        momentum: Of SGD.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0, as in the paper, is none.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Mirza & Osindero 2014, Conditional Generative Adversarial Nets, https://arxiv.org/abs/1411.1784"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (1, 28, 28), "num_classes": 10},
        "quick": QUICK,
        "photographs": QUICK | {"latent_dim": 64},
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 15000, "data.batch_size": 100},
        "quick": {"kimg": 640, "data.batch_size": 32},
        "photographs": {"kimg": 200, "data.batch_size": 32, "watch.action": "warn"},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_classes: NonNegativeInt = 10,
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 1200,
        discriminator_width: PositiveInt = 240,
        dropout: Decay = 0.5,
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
        if num_classes == 0:
            raise without_labels("cgan")
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        self.generator = Generator(latent_dim, num_classes, width, dropout, self.image_shape)
        self.discriminator = Discriminator(self.image_shape, num_classes, discriminator_width, dropout)
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        own, networks = self.hparams, (self.discriminator, self.generator)
        if own.optimizer == "sgd":
            return [torch.optim.SGD(network.parameters(), own.lr, own.momentum) for network in networks]
        return [torch.optim.Adam(network.parameters(), own.lr, own.betas) for network in networks]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        chunks = (batch[key].chunk(self.critic_steps) for key in ("image", "label"))
        for images, labels in zip(*chunks, strict=True):
            with self.update(opt_d) as step_d:
                for real, label in step_d.parts(images, labels):
                    fake = self.generator(self.rand(len(real), self.latent_dim), label)
                    real.requires_grad_(self.hparams.penalty > 0)
                    logits_real = self.discriminator(self.augmented(real), label)
                    logits_fake = self.discriminator(self.augmented(fake), label)
                    loss_d = minimax_d(logits_real, logits_fake)
                    if self.hparams.penalty > 0:
                        loss_d = loss_d + self.hparams.penalty * zero_centred_penalty(logits_real, real)
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real, label in step_g.parts(images, labels):
                fake = self.generator(self.rand(len(real), self.latent_dim), label)
                loss_g = non_saturating_g(self.discriminator(self.augmented(fake), label))
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

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        return noise.uniform(n, self.latent_dim, seed=seed, start=start)

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        assert condition is not None
        return self.averaged("generator")(latents, condition["label"])
