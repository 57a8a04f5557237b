"""Spectral normalization for GANs: Miyato, Kataoka, Koyama, Yoshida, ICLR 2018, https://arxiv.org/abs/1802.05957

Original code (Chainer): https://github.com/pfnet-research/sngan_projection
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.losses import hinge_d, hinge_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput
from lightning_gen.resnet import DiscriminatorBlock, GeneratorBlock, Make, gained_glorot, glorot, spectral_glorot


class Layout(NamedTuple):
    """The networks of one resolution; feature maps count in units of `width` and `discriminator_width`."""

    side: int
    """Pixels of the generator's first maps."""
    generator: tuple[int, ...]
    """Feature maps that go into each block, and out of the last."""
    discriminator: tuple[int, ...]
    """Feature maps that come out of each block."""
    halvings: int
    """How many of the discriminator's blocks pool, the first ones."""


LAYOUTS = {
    32: Layout(4, (1, 1, 1, 1), (1, 1, 1, 1), 2),  # appendix B.4, table 4
    48: Layout(6, (8, 4, 2, 1), (1, 2, 4, 8, 16), 4),  # table 5
    64: Layout(4, (16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 5),  # the published code's
    128: Layout(4, (16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),  # table 6
}


class Generator(nn.Module):
    """Latents (B, latent_dim) -> images (B, C, R, R) in [-1, 1]."""

    def __init__(self, latent_dim: int, layout: Layout, width: int, channels: int):
        super().__init__()
        widths = [width * factor for factor in layout.generator]
        self.side = layout.side
        self.dense = glorot(nn.Linear(latent_dim, widths[0] * layout.side**2))
        self.blocks = nn.Sequential(
            *(GeneratorBlock(wide, narrow, glorot, nn.BatchNorm2d) for wide, narrow in itertools.pairwise(widths))
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_rgb = glorot(nn.Conv2d(widths[-1], channels, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        x = self.blocks(self.dense(latents).unflatten(1, (-1, self.side, self.side)))
        return torch.tanh(self.to_rgb(F.relu(self.norm(x))))


class Discriminator(nn.Module):
    """Images (B, C, R, R) -> logits (B,). `make` divides every weight by its largest singular value."""

    def __init__(self, layout: Layout, width: int, channels: int, make: Make):
        super().__init__()
        widths = [channels, *(width * factor for factor in layout.discriminator)]
        self.blocks = nn.Sequential(
            *(
                DiscriminatorBlock(
                    narrow,
                    wide,
                    make,
                    hidden=wide if depth == 0 else narrow,
                    halve=depth < layout.halvings,
                    first=depth == 0,
                )
                for depth, (narrow, wide) in enumerate(itertools.pairwise(widths))
            )
        )
        self.logit = make(nn.Linear(widths[-1], 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.logit(F.relu(self.blocks(images)).sum((2, 3))).squeeze(1)


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "width": 24,
    "discriminator_width": 48,
    "learned_gains": True,
    "penalty": 3.0,
    "lr": 2e-3,
    "betas": (0.0, 0.99),
    "critic_steps": 1,
    "ema_halflife_kimg": 5.0,
}


class SNGAN(GenerativeModule):
    """Spectral normalization: a discriminator whose every layer has Lipschitz constant 1, ResNets, hinge loss.

    Differences from the paper: the generator's update takes as many images as the discriminator's, not twice as many,
    and real and fake images share one power iteration an update. The paper trains on labels with `cgan-projection`. The
    preset `quick` has the paper's reparametrization (appendix E), bounded by R1 where the paper has WGAN-GP's penalty:
    under spectral norm alone a discriminator as small as that wins, and the generator loses colours.

    Args:
        image_shape: (channels, height, width); square, 32, 48, 64 or 128 pixels.
        latent_dim: Length of the latent vector.
        width: Feature maps of the generator's layers nearest the image; beyond 32 pixels they grow towards the
            first ones as in the paper's tables (whose 64 is this width).
        discriminator_width: The same for the discriminator.
        learned_gains: Whether the discriminator's normalised weights have learned factors (appendix E): not they but a
            penalty bounds its slope then.
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0 is none.
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks, https://arxiv.org/abs/1802.05957"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 32, 32)},
        "paper-48": {"image_shape": (3, 48, 48), "width": 64, "discriminator_width": 64},
        "paper-64": {"image_shape": (3, 64, 64), "width": 64, "discriminator_width": 64},
        "quick": QUICK,
        # spectral norm alone, and a lower rate: at 1e-3 the generator's gradient vanishes
        "photographs": QUICK
        | {
            "latent_dim": 64,
            "width": 32,
            "discriminator_width": 32,
            "learned_gains": False,
            "penalty": 0.0,
            "lr": 4e-4,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 16000, "data.batch_size": 64, "update.lr_decay": 1.0},
        "paper-48": {"kimg": 16000, "data.batch_size": 64, "update.lr_decay": 1.0},
        "paper-64": {"kimg": 32000, "data.batch_size": 64, "update.lr_decay": 1.0},
        "quick": {"kimg": 200, "data.batch_size": 16, "update.lr_decay": 0.5},
        "photographs": {"kimg": 120, "data.batch_size": 32, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        latent_dim: PositiveInt = 128,
        width: PositiveInt = 256,
        discriminator_width: PositiveInt = 128,
        learned_gains: bool = False,
        penalty: NonNegativeFloat = 0.0,
        lr: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.0, 0.9),
        critic_steps: PositiveInt = 5,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in LAYOUTS:
            raise UserError(f"sngan makes square images of 32, 48, 64 or 128 pixels, not {height} x {resolution}")
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        self.generator = Generator(latent_dim, LAYOUTS[resolution], width, channels)
        make = gained_glorot if learned_gains else spectral_glorot
        self.discriminator = Discriminator(LAYOUTS[resolution], discriminator_width, channels, make)
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
                for real in step_d.parts(images):  # spectral norm: one power iteration a part
                    fake = self.generator(self.randn(len(real), self.latent_dim))
                    real.requires_grad_(self.hparams.penalty > 0)
                    logits_real = self.discriminator(self.augmented(real))
                    logits_fake = self.discriminator(self.augmented(fake))
                    loss_d = hinge_d(logits_real, logits_fake)
                    if self.hparams.penalty > 0:
                        loss_d = loss_d + self.hparams.penalty * zero_centred_penalty(logits_real, real)
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real in step_g.parts(images):
                fake = self.generator(self.randn(len(real), self.latent_dim))
                loss_g = hinge_g(self.discriminator(self.augmented(fake)))
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
