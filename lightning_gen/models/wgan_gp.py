"""Improved training of Wasserstein GANs: Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, NeurIPS 2017

https://arxiv.org/abs/1704.00028. Original code (TensorFlow): https://github.com/igul222/improved_wgan_training,
gan_cifar_resnet.py and, for points, gan_toy.py
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.layers import decoder, encoder
from lightning_gen.losses import gradient_penalty, wasserstein_d, wasserstein_g
from lightning_gen.module import Decay, GenerativeModule, StepOutput
from lightning_gen.resnet import DiscriminatorBlock, GeneratorBlock, glorot


class Generator(nn.Module):
    """Appendix F, table 4: latents (B, latent_dim) -> images (B, C, R, R) in [-1, 1], R = 4 * 2**doublings."""

    def __init__(self, latent_dim: int, width: int, doublings: int, channels: int):
        super().__init__()
        self.dense = glorot(nn.Linear(latent_dim, 16 * width))
        self.blocks = nn.Sequential(*(GeneratorBlock(width, width, glorot, nn.BatchNorm2d) for _ in range(doublings)))
        self.norm = nn.BatchNorm2d(width)
        self.to_rgb = glorot(nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        x = self.blocks(self.dense(latents).unflatten(1, (-1, 4, 4)))
        return torch.tanh(self.to_rgb(F.relu(self.norm(x))))


class Critic(nn.Module):
    """Appendix F, table 4: images (B, C, R, R) -> critic values (B,), from maps of 8x8 pixels at the end.

    No batch norm: the penalty is about the gradient of each image alone (section 4).
    """

    def __init__(self, width: int, halvings: int, channels: int):
        super().__init__()
        widths = [channels, *[width] * (halvings + 2)]
        self.blocks = nn.Sequential(
            *(
                DiscriminatorBlock(ins, outs, glorot, hidden=width, halve=depth < halvings, first=depth == 0)
                for depth, (ins, outs) in enumerate(itertools.pairwise(widths))
            )
        )
        self.value = glorot(nn.Linear(width, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.value(F.relu(self.blocks(images)).mean((2, 3))).squeeze(1)


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "width": 16,
    "critic_width": 24,
    "lr": 2e-3,
    "betas": (0.0, 0.99),
    "critic_steps": 1,
    "ema_halflife_kimg": 5.0,
}


class WGANGP(GenerativeModule):
    """Wasserstein GAN with gradient penalty: ResNets, and a critic whose slope is held near 1.

    Images of one pixel are points, as in the paper's toy data: dense networks of three hidden layers.
    Differences from the paper: the generator's update takes as many images as the critic's, not twice as many, and no
    noise is added to the levels of real images. Beyond 32 pixels, where the paper's ResNets have layouts of their own,
    both networks get one more block for each doubling. The generator of points ends in tanh.

    Args:
        image_shape: (channels, height, width); square, 32, 64 or 128 pixels, or 1 for points.
        latent_dim: Length of the latent vector.
        width: Feature maps (for points, units) of every layer of the generator.
        critic_width: The same of the critic.
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        critic_steps: Critic updates for each generator update.
        penalty: Weight of the gradient penalty (lambda).
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    undecided = None
    paper = "Gulrajani et al. 2017, Improved Training of Wasserstein GANs, https://arxiv.org/abs/1704.00028"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 32, 32)},
        "quick": QUICK,
        "photographs": QUICK | {"latent_dim": 64, "width": 32, "critic_width": 32, "lr": 1e-3, "critic_steps": 2},
        "points": {
            "image_shape": (2, 1, 1),
            "latent_dim": 2,
            "width": 128,
            "critic_width": 128,
            "lr": 1e-3,
            "betas": (0.5, 0.9),
            "critic_steps": 5,
            "penalty": 0.1,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 32000, "data.batch_size": 64, "update.lr_decay": 1.0},
        "points": {"kimg": 4000, "data.batch_size": 256, "update.lr_decay": 0.5},
        "quick": {"kimg": 160, "data.batch_size": 8, "update.lr_decay": 0.4},
        "photographs": {"kimg": 100, "data.batch_size": 32, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        latent_dim: PositiveInt = 128,
        width: PositiveInt = 128,
        critic_width: PositiveInt = 128,
        lr: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.0, 0.9),
        critic_steps: PositiveInt = 5,
        penalty: NonNegativeFloat = 10.0,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in (1, 32, 64, 128):
            raise UserError(
                f"wgan-gp makes points and square images of 32, 64 or 128 pixels, not {height} x {resolution}"
            )
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        self.generator: nn.Module
        self.discriminator: nn.Module
        if resolution == 1:
            self.generator = nn.Sequential(decoder(self.image_shape, (), [width] * 3, latent_dim), nn.Tanh())
            self.discriminator = nn.Sequential(encoder(self.image_shape, (), [critic_width] * 3, 1), nn.Flatten(0))
        else:
            doublings = int(math.log2(resolution)) - 2
            self.generator = Generator(latent_dim, width, doublings, channels)
            self.discriminator = Critic(critic_width, doublings - 1, channels)
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(network.parameters(), self.hparams.lr, self.hparams.betas)
            for network in (self.discriminator, self.generator)
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        for images in batch["image"].chunk(self.critic_steps):
            with self.update(opt_d) as step_d:
                for real in step_d.parts(images):
                    fake = self.augmented(self.generator(self.randn(len(real), self.latent_dim)))
                    real = self.augmented(real)
                    values_real, values_fake = self.discriminator(real), self.discriminator(fake)
                    slope = gradient_penalty(self.discriminator, real, fake, self.rand(len(real)))
                    loss_d = wasserstein_d(values_real, values_fake) + self.hparams.penalty * slope
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real in step_g.parts(images):
                fake = self.generator(self.randn(len(real), self.latent_dim))
                loss_g = wasserstein_g(self.discriminator(self.augmented(fake)))
                step_g.backward(loss_g)
        return self.step_output(
            len(batch["image"]),
            loss_d=loss_d,
            loss_g=loss_g,
            logits_real=values_real,
            logits_fake=values_fake,
            grad_norm_d=step_d.grad_norm,
            grad_norm_g=step_g.grad_norm,
        )

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return self.averaged("generator")(latents)
