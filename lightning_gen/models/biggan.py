"""BigGAN: Brock, Donahue, Simonyan, ICLR 2019, https://arxiv.org/abs/1809.11096

The authors' code in PyTorch: https://github.com/ajbrock/BigGAN-PyTorch
"""

from __future__ import annotations

import copy
import itertools
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.ema import StandingStatistics
from lightning_gen.errors import UserError, without_labels
from lightning_gen.losses import hinge_d, hinge_g, orthogonality, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput
from lightning_gen.resnet import (
    ConditionalBatchNorm2d,
    DiscriminatorBlock,
    GeneratorBlock,
    Make,
    SelfAttention,
    orthogonal,
    spectral_orthogonal,
)

STANDING = 0x57A7
"""Names the stream of latents and labels that standing statistics are gathered on."""

BATCH = 64
"""Images in each of their batches."""


class Layout(NamedTuple):
    """The networks of one resolution (appendix B); feature maps count in units of `width` and `discriminator_width`."""

    generator: tuple[int, ...]
    """Feature maps that go into each block, the first at 4x4 pixels, and out of the last."""
    discriminator: tuple[int, ...]
    """Feature maps that come out of each block."""
    halvings: int
    """How many of the discriminator's blocks pool, the first ones."""
    attention: tuple[int, int]
    """After how many blocks of the generator and of the discriminator the maps look at themselves."""


LAYOUTS = {
    # StudioGAN's for CIFAR, with attention; the authors' own code has (4, 4, 4, 4) in the discriminator
    32: Layout((4, 4, 4, 4), (2, 2, 2, 2), 2, (2, 1)),
    64: Layout((16, 16, 8, 4, 2), (1, 2, 4, 8, 16), 4, (3, 1)),
    128: Layout((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5, (4, 1)),  # table 4
}


class Generator(nn.Module):
    """Latents (B, latent_dim), labels (B,) -> images (B, C, R, R) in [-1, 1]. Figure 15.

    One embedding of the classes serves all layers, and each block gets a slice of the latent of its own beside it.
    `make` finishes each layer: spectral norm in the paper.
    """

    def __init__(
        self, latent_dim: int, layout: Layout, width: int, class_dim: int, num_classes: int, channels: int, make: Make
    ):
        super().__init__()
        widths = [width * factor for factor in layout.generator]
        self.slice = latent_dim // len(widths)
        self.classes = nn.Embedding(num_classes, class_dim)
        nn.init.orthogonal_(self.classes.weight)
        self.dense = make(nn.Linear(self.slice, widths[0] * 16))

        def norm(channels: int) -> ConditionalBatchNorm2d:
            def affine() -> nn.Module:
                return make(nn.Linear(class_dim + self.slice, channels, bias=False))

            return ConditionalBatchNorm2d(channels, affine)

        self.blocks = nn.ModuleList(
            GeneratorBlock(wide, narrow, make, norm) for wide, narrow in itertools.pairwise(widths)
        )
        self.attended = layout.attention[0]
        self.attention = SelfAttention(widths[self.attended], make)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_rgb = make(nn.Conv2d(widths[-1], channels, 3, padding=1))

    def forward(self, latents: Tensor, label: Tensor) -> Tensor:
        first, *slices = latents.split(self.slice, dim=1)
        shared = self.classes(label)
        x = self.dense(first).unflatten(1, (-1, 4, 4))
        for depth, (block, own) in enumerate(zip(self.blocks, slices, strict=True), start=1):
            x = block(x, torch.cat([shared, own], dim=1))
            if depth == self.attended:
                x = self.attention(x)
        return torch.tanh(self.to_rgb(F.relu(self.norm(x))))

    def regularised(self) -> list[Tensor]:
        """The weights that shall be orthogonal: all matrices and kernels but the shared embedding (section 3.1)."""
        return [p for name, p in self.named_parameters() if p.dim() > 1 and not name.startswith("classes.")]


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


def truncated(latents: Tensor, threshold: float | None) -> Tensor:
    """Standard normal latents squeezed into +- `threshold`, to the law that redrawing all beyond it would give.

    The truncation trick (section 3.1) redraws; mapping each value through the two distribution functions gives the
    same distribution and keeps latent i a function of (seed, i). None changes nothing.
    """
    if threshold is None:
        return latents
    below = torch.special.ndtr(latents.new_tensor(-threshold, dtype=torch.float64))
    within = below + torch.special.ndtr(latents.double()) * (1 - 2 * below)
    return torch.special.ndtri(within).clamp(-threshold, threshold).to(latents.dtype)


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "class_dim": 64,
    "width": 4,
    "discriminator_width": 12,
    "lr": 2e-3,
    "discriminator_lr": 2e-3,
    "betas": (0.0, 0.99),
    "critic_steps": 1,
    "spectral_norm": False,
    "penalty": 3.0,
    "standing": 4,
    "ema_halflife_kimg": 5.0,
}


class BigGAN(GenerativeModule):
    """BigGAN: SAGAN at scale, with a shared class embedding, hierarchical latents, orthogonality and truncation.

    Samples use standing statistics: before the first image from new weights the generator runs over `standing` batches
    of latents of its own (of the asked truncation), and its batch norms use the mean statistics of these passes. So an
    image does not depend on those drawn beside it, and averaged weights get statistics that are theirs.

    Differences from the paper: fake images take the labels of the real batch, so that both have the data's frequencies;
    batch norm is not synchronised between processes; the averaged generator's half-life is at most a twentieth of the
    images seen; the epsilons of batch and spectral norm are PyTorch's, not 1e-4; the orthogonal regularisation takes
    the smaller Gram matrix of each weight, the one that can be the identity. The preset `quick` has R1 in the place of
    spectral norm, under which the generator is slower to heed labels; `photographs` has it.

    Args:
        image_shape: (channels, height, width); square, 32, 64 or 128 pixels.
        num_classes: Number of labels; the data says it.
        latent_dim: Length of the latent vector; a multiple of one more than the generator's blocks (4 at 32 pixels, 6
            at 128).
        class_dim: Length of the class embedding that the generator's layers share.
        width: The generator's feature maps in the unit of the layouts (ch): at 128 pixels those of the layers nearest
            the image, at 32 a quarter of each layer's.
        discriminator_width: The same for the discriminator, as large in the paper; at 32 pixels half of each layer's.
        lr: Learning rate of the generator.
        discriminator_lr: Learning rate of the discriminator.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        spectral_norm: Whether the weights of both networks are divided by their largest singular values.
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0, as in the paper, is none.
        orthogonality: Weight of the orthogonal regularisation of the generator (beta); 0 is none.
        standing: Batches of 64 over which batch-norm statistics for sampling are gathered; 0 takes the running
            averages of training.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Brock et al. 2019, Large Scale GAN Training for High Fidelity Natural Image Synthesis, https://arxiv.org/abs/1809.11096"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "image_shape": (3, 128, 128),
            "num_classes": 1000,
            "latent_dim": 120,
            "lr": 5e-5,
            "critic_steps": 2,
            "standing": 100,
            "ema_halflife_kimg": 28000.0,  # 0.9999 a generator update
        },
        "paper-32": {"image_shape": (3, 32, 32), "num_classes": 10, "ema_halflife_kimg": 1400.0},
        "quick": QUICK,
        # as in the paper but smaller: without spectral norm the discriminator dies on photographs
        "photographs": QUICK
        | {
            "latent_dim": 64,
            "width": 8,
            "discriminator_width": 16,
            "lr": 4e-4,
            "discriminator_lr": 4e-4,
            "betas": (0.0, 0.9),
            "spectral_norm": True,
            "penalty": 0.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 573000, "data.batch_size": 2048},
        "paper-32": {"kimg": 25000, "data.batch_size": 50},
        "quick": {"kimg": 200, "data.batch_size": 16, "update.lr_decay": 0.4},
        "photographs": {"kimg": 60, "data.batch_size": 32, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: NonNegativeInt = 10,
        latent_dim: PositiveInt = 80,
        class_dim: PositiveInt = 128,
        width: PositiveInt = 96,
        discriminator_width: PositiveInt = 96,
        lr: PositiveFloat = 2e-4,
        discriminator_lr: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.0, 0.999),
        critic_steps: PositiveInt = 4,
        spectral_norm: bool = True,
        penalty: NonNegativeFloat = 0.0,
        orthogonality: NonNegativeFloat = 1e-4,
        standing: NonNegativeInt = 16,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in LAYOUTS:
            raise UserError(f"biggan makes square images of 32, 64 or 128 pixels, not {height} x {resolution}")
        layout = LAYOUTS[resolution]
        if latent_dim % len(layout.generator):
            raise UserError(
                f"--model.latent_dim {latent_dim}: at {resolution} pixels biggan cuts it into {len(layout.generator)} "
                f"equal slices, as of {20 * len(layout.generator)}"
            )
        if num_classes == 0:
            raise without_labels("biggan")
        self.num_classes = num_classes
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        make = spectral_orthogonal if spectral_norm else orthogonal
        self.generator = Generator(latent_dim, layout, width, class_dim, num_classes, channels, make)
        self.discriminator = Discriminator(layout, discriminator_width, num_classes, channels, make)
        self.average("generator", ema_halflife_kimg)
        self.statistics = StandingStatistics()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        lr_d, lr_g, betas = self.hparams.discriminator_lr, self.hparams.lr, self.hparams.betas
        return [
            torch.optim.Adam(self.discriminator.parameters(), lr_d, betas),
            torch.optim.Adam(self.generator.parameters(), lr_g, betas),
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
                if self.hparams.orthogonality > 0:
                    loss_g = loss_g + self.hparams.orthogonality * orthogonality(self.generator.regularised())
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

    def generate(
        self, latents: Tensor, condition: dict[str, Any] | None = None, truncation: float | None = None
    ) -> Tensor:
        """`truncation`: largest magnitude of a latent, above 0; less is more typical and less varied. None: any."""
        assert condition is not None
        if truncation is not None and truncation <= 0:
            raise UserError(f"truncation must be more than 0, not {truncation}")
        generator = self.averaged("generator")
        if self.hparams.standing == 0:
            return generator(truncated(latents, truncation), condition["label"])

        key = truncation, self.clock.images
        with self.statistics.of(generator, lambda: self.pass_through(generator, truncation), *key):
            return generator(truncated(latents, truncation), condition["label"])

    def pass_through(self, generator: nn.Module, truncation: float | None) -> None:
        """The passes over which standing statistics are gathered."""
        for start in range(0, BATCH * self.hparams.standing, BATCH):
            z = truncated(self.latents(BATCH, seed=STANDING, start=start), truncation)
            rows = self.conditions(BATCH, seed=STANDING, start=start)
            assert rows is not None
            generator(z.to(self.device), rows["label"].to(self.device))

    def exportable(self) -> BigGAN:
        """Its standing statistics stand in the buffers of its batch norms."""
        copied = copy.deepcopy(self)
        generator = copied.averaged("generator").eval()
        if self.hparams.standing > 0:
            copied.statistics.settle(generator, lambda: copied.pass_through(generator, None))
            copied.hparams.standing = 0
        return copied
