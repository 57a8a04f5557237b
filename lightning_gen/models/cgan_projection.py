"""cGANs with projection discriminator: Miyato, Koyama, ICLR 2018, https://arxiv.org/abs/1802.05637

Original code (Chainer): https://github.com/pfnet-research/sngan_projection
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError, without_labels
from lightning_gen.losses import hinge_d, hinge_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput
from lightning_gen.resnet import DiscriminatorBlock, GeneratorBlock, Make, class_norm, glorot, spectral_glorot


class Layout(NamedTuple):
    """The networks of one resolution; feature maps count in units of `width` and `discriminator_width`."""

    generator: tuple[int, ...]
    """Feature maps that go into each block, the first at 4x4 pixels, and out of the last."""
    discriminator: tuple[int, ...]
    """Feature maps that come out of each block."""
    halvings: int
    """How many of the discriminator's blocks pool, the first ones."""


LAYOUTS = {
    32: Layout((1, 1, 1, 1), (1, 1, 1, 1), 2),
    64: Layout((16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 5),
    128: Layout((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),
}
"""Those of the published code (gen_models, dis_models)."""


class Generator(nn.Module):
    """Figure 14, left: latents (B, latent_dim), labels (B,) -> images (B, C, R, R) in [-1, 1].

    The label chooses the scales and shifts of every batch norm but the last.
    """

    def __init__(self, latent_dim: int, layout: Layout, width: int, num_classes: int, channels: int):
        super().__init__()
        widths = [width * factor for factor in layout.generator]
        self.dense = glorot(nn.Linear(latent_dim, widths[0] * 16))
        norm = class_norm(num_classes)
        self.blocks = nn.ModuleList(
            GeneratorBlock(wide, narrow, glorot, norm) for wide, narrow in itertools.pairwise(widths)
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_rgb = glorot(nn.Conv2d(widths[-1], channels, 3, padding=1))

    def forward(self, latents: Tensor, label: Tensor) -> Tensor:
        x = self.dense(latents).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            x = block(x, label)
        return torch.tanh(self.to_rgb(F.relu(self.norm(x))))


class Discriminator(nn.Module):
    """Figure 14, right: images (B, C, R, R), labels (B,) -> logits (B,), y^T V phi(x) + psi(phi(x)), equation 3.

    `make` finishes each layer: spectral norm in the paper.
    """

    def __init__(self, layout: Layout, width: int, num_classes: int, channels: int, make: Make):
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
        self.classes = make(nn.Embedding(num_classes, widths[-1]))

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        features = F.relu(self.blocks(images)).sum((2, 3))
        return (self.classes(label) * features).sum(1) + self.logit(features).squeeze(1)


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "width": 16,
    "discriminator_width": 24,
    "lr": 2e-3,
    "betas": (0.0, 0.99),
    "critic_steps": 1,
    "spectral_norm": False,
    "penalty": 1.0,
    "ema_halflife_kimg": 5.0,
}


class ProjectionGAN(GenerativeModule):
    """Class-conditional: labels steer the generator's batch norms and meet the discriminator's features in a product.

    Differences from the paper: fake images take the labels of the real batch, so that both have the data's frequencies
    (the paper draws them uniformly), the generator's update takes as many images as the discriminator's, not twice as
    many, and real and fake images share one power iteration an update. The preset `quick` has R1 in the place of
    spectral norm, under which the generator is slower to heed labels; `photographs` has it.

    Args:
        image_shape: (channels, height, width); square, 32, 64 or 128 pixels.
        num_classes: Number of labels; the data says it.
        latent_dim: Length of the latent vector.
        width: Feature maps of the generator's layers nearest the image; beyond 32 pixels they grow towards the
            first ones as in the published code (whose 64 is this width).
        discriminator_width: The same for the discriminator.
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        spectral_norm: Whether the discriminator's weights are divided by their largest singular values.
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0, as in the paper, is none.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Miyato & Koyama 2018, cGANs with Projection Discriminator, https://arxiv.org/abs/1802.05637"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 32, 32), "num_classes": 10},
        "paper-128": {"image_shape": (3, 128, 128), "num_classes": 1000, "width": 64, "discriminator_width": 64},
        "quick": QUICK,
        # as in the paper but smaller: without spectral norm the discriminator dies on photographs
        "photographs": QUICK
        | {
            "latent_dim": 64,
            "width": 32,
            "discriminator_width": 32,
            "lr": 4e-4,
            "betas": (0.0, 0.9),
            "spectral_norm": True,
            "penalty": 0.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 16000, "data.batch_size": 64, "update.lr_decay": 1.0},
        "paper-128": {"kimg": 576000, "data.batch_size": 256, "update.lr_decay": 0.11},
        "quick": {"kimg": 200, "data.batch_size": 16, "update.lr_decay": 0.4},
        "photographs": {"kimg": 100, "data.batch_size": 32, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: NonNegativeInt = 10,
        latent_dim: PositiveInt = 128,
        width: PositiveInt = 256,
        discriminator_width: PositiveInt = 128,
        lr: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.0, 0.9),
        critic_steps: PositiveInt = 5,
        spectral_norm: bool = True,
        penalty: NonNegativeFloat = 0.0,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in LAYOUTS:
            raise UserError(f"cgan-projection makes square images of 32, 64 or 128 pixels, not {height} x {resolution}")
        if num_classes == 0:
            raise without_labels("cgan-projection")
        self.num_classes = num_classes
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        layout = LAYOUTS[resolution]
        self.generator = Generator(latent_dim, layout, width, num_classes, channels)
        make = spectral_glorot if spectral_norm else glorot
        self.discriminator = Discriminator(layout, discriminator_width, num_classes, channels, make)
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(network.parameters(), self.hparams.lr, self.hparams.betas)
            for network in (self.discriminator, self.generator)
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        chunks = (batch[key].chunk(self.critic_steps) for key in ("image", "label"))
        for images, labels in zip(*chunks, strict=True):
            with self.update(opt_d) as step_d:
                for real, label in step_d.parts(images, labels):  # spectral norm: one power iteration a part
                    fake = self.generator(self.randn(len(real), self.latent_dim), label)
                    real.requires_grad_(self.hparams.penalty > 0)
                    logits_real = self.discriminator(self.augmented(real), label)
                    logits_fake = self.discriminator(self.augmented(fake), label)
                    loss_d = hinge_d(logits_real, logits_fake)
                    if self.hparams.penalty > 0:
                        loss_d = loss_d + self.hparams.penalty * zero_centred_penalty(logits_real, real)
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real, label in step_g.parts(images, labels):
                fake = self.generator(self.randn(len(real), self.latent_dim), label)
                loss_g = hinge_g(self.discriminator(self.augmented(fake), label))
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
        assert condition is not None
        return self.averaged("generator")(latents, condition["label"])
