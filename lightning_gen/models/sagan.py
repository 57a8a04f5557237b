"""Self-attention GAN: Zhang, Goodfellow, Metaxas, Odena, ICML 2019, https://arxiv.org/abs/1805.08318

Original code (TensorFlow): https://github.com/brain-research/self-attention-gan
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
from lightning_gen.resnet import (
    DiscriminatorBlock,
    GeneratorBlock,
    Make,
    SelfAttention,
    class_groups,
    class_norm,
    glorot,
    spectral_glorot,
)


class Layout(NamedTuple):
    """The networks of one resolution; feature maps count in units of `width` and `discriminator_width`."""

    generator: tuple[int, ...]
    """Feature maps that go into each block, the first at 4x4 pixels, and out of the last."""
    discriminator: tuple[int, ...]
    """Feature maps that come out of each block."""
    halvings: int
    """How many of the discriminator's blocks pool, the first ones."""
    attention: tuple[int, int]
    """After how many blocks of the generator and of the discriminator the maps look at themselves."""


LAYOUTS = {
    32: Layout((4, 4, 4, 4), (2, 2, 2, 2), 2, (2, 1)),  # SNGAN's, attending at 16 pixels
    64: Layout((16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 4, (3, 1)),
    128: Layout((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5, (3, 2)),  # the paper's, attending at 32 pixels
}


class Generator(nn.Module):
    """Latents (B, latent_dim), labels (B,) -> images (B, C, R, R) in [-1, 1].

    The label chooses the scales and shifts of every batch norm but the last. `make` finishes each layer: spectral norm
    in the paper.
    """

    def __init__(self, latent_dim: int, layout: Layout, width: int, num_classes: int, channels: int, make: Make):
        super().__init__()
        widths = [width * factor for factor in layout.generator]
        self.dense = make(nn.Linear(latent_dim, widths[0] * 16))
        norm = class_norm(num_classes)
        self.blocks = nn.ModuleList(
            GeneratorBlock(wide, narrow, make, norm) for wide, narrow in itertools.pairwise(widths)
        )
        self.attended = layout.attention[0]
        self.attention = SelfAttention(widths[self.attended], make)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_rgb = make(nn.Conv2d(widths[-1], channels, 3, padding=1))

    def forward(self, latents: Tensor, label: Tensor) -> Tensor:
        x = self.dense(latents).unflatten(1, (-1, 4, 4))
        for depth, block in enumerate(self.blocks, start=1):
            x = block(x, label)
            if depth == self.attended:
                x = self.attention(x)
        return torch.tanh(self.to_rgb(F.relu(self.norm(x))))


class Discriminator(nn.Module):
    """Images (B, C, R, R), labels (B,) -> logits (B,), the label by projection (Miyato & Koyama 2018, equation 3)."""

    def __init__(self, layout: Layout, width: int, num_classes: int, channels: int, make: Make):
        super().__init__()
        widths = [channels, *(width * factor for factor in layout.discriminator)]
        blocks: list[nn.Module] = [
            DiscriminatorBlock(narrow, wide, make, hidden=wide, halve=depth < layout.halvings, first=depth == 0)
            for depth, (narrow, wide) in enumerate(itertools.pairwise(widths))
        ]
        attended = layout.attention[1]
        blocks.insert(attended, SelfAttention(widths[attended], make))
        self.blocks = nn.Sequential(*blocks)
        self.logit = make(nn.Linear(widths[-1], 1))
        self.classes = make(nn.Embedding(num_classes, widths[-1]))

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        features = F.relu(self.blocks(images)).sum((2, 3))
        return (self.classes(label) * features).sum(1) + self.logit(features).squeeze(1)


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "width": 4,
    "discriminator_width": 12,
    "lr": 2e-3,
    "discriminator_lr": 2e-3,
    "class_rate": 2.0,
    "betas": (0.0, 0.99),
    "spectral_norm": False,
    "penalty": 3.0,
    "ema_halflife_kimg": 5.0,
}


class SAGAN(GenerativeModule):
    """Self-attention GAN: each place of the feature maps looks at all others, spectral norm in both networks.

    Class-conditional, as the paper's: class-conditional batch norm and projection.

    Differences from the paper: fake images take the labels of the real batch, so that both have the data's frequencies,
    and real and fake images share one power iteration an update. The paper has 128 pixels only; at 32 the networks are
    those of SNGAN with attention at 16 pixels. The preset `quick` has R1 in the place of spectral norm, under which
    the generator is slower to heed labels; `photographs` has spectral norm.

    Args:
        image_shape: (channels, height, width); square, 32, 64 or 128 pixels.
        num_classes: Number of labels; the data says it.
        latent_dim: Length of the latent vector.
        width: The generator's feature maps in the unit of the layouts: at 128 pixels those of the layers nearest the
            image, at 32 a quarter of each layer's.
        discriminator_width: The same for the discriminator; at 32 pixels half of each layer's.
        lr: Learning rate of the generator.
        discriminator_lr: Learning rate of the discriminator: two time-scales (section 4.2).
        class_rate: How many times as fast as the rest of the generator its tables of scales and shifts learn, of which
            an update moves only the rows of its classes; 1 in the paper.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        spectral_norm: Whether the weights of both networks are divided by their largest singular values.
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0, as in the paper, is none.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Zhang et al. 2019, Self-Attention Generative Adversarial Networks, https://arxiv.org/abs/1805.08318"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 128, 128), "num_classes": 1000},
        "paper-32": {"image_shape": (3, 32, 32), "num_classes": 10},
        "quick": QUICK,
        # as in the paper but smaller: without spectral norm the discriminator dies on photographs
        "photographs": QUICK
        | {
            "latent_dim": 64,
            "width": 8,
            "discriminator_width": 16,
            "lr": 4e-4,
            "discriminator_lr": 4e-4,
            "class_rate": 1.0,
            "betas": (0.0, 0.9),
            "spectral_norm": True,
            "penalty": 0.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 256000, "data.batch_size": 256},
        "paper-32": {"kimg": 6400, "data.batch_size": 64},
        "quick": {"kimg": 200, "data.batch_size": 16, "update.lr_decay": 0.4},
        "photographs": {"kimg": 60, "data.batch_size": 32, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: NonNegativeInt = 10,
        latent_dim: PositiveInt = 128,
        width: PositiveInt = 64,
        discriminator_width: PositiveInt = 64,
        lr: PositiveFloat = 1e-4,
        discriminator_lr: PositiveFloat = 4e-4,
        class_rate: PositiveFloat = 1.0,
        betas: tuple[Decay, Decay] = (0.0, 0.9),
        critic_steps: PositiveInt = 1,
        spectral_norm: bool = True,
        penalty: NonNegativeFloat = 0.0,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in LAYOUTS:
            raise UserError(f"sagan makes square images of 32, 64 or 128 pixels, not {height} x {resolution}")
        if num_classes == 0:
            raise without_labels("sagan")
        self.num_classes = num_classes
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        layout = LAYOUTS[resolution]
        make = spectral_glorot if spectral_norm else glorot
        self.generator = Generator(latent_dim, layout, width, num_classes, channels, make)
        self.discriminator = Discriminator(layout, discriminator_width, num_classes, channels, make)
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        lr_d, lr_g, betas = self.hparams.discriminator_lr, self.hparams.lr, self.hparams.betas
        return [
            torch.optim.Adam(self.discriminator.parameters(), lr_d, betas),
            torch.optim.Adam(class_groups(self.generator, lr_g, self.hparams.class_rate), lr_g, betas),
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
