"""Progressive growing of GANs: Karras, Aila, Laine, Lehtinen, ICLR 2018, https://arxiv.org/abs/1710.10196

Original code (TensorFlow): https://github.com/tkarras/progressive_growing_of_gans
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.layers import EqualizedConv2d, EqualizedLinear, minibatch_stddev, pixel_norm
from lightning_gen.losses import (
    drift,
    gradient_penalty,
    minimax_d,
    non_saturating_g,
    wasserstein_d,
    wasserstein_g,
    zero_centred_penalty,
)
from lightning_gen.module import Decay, GenerativeModule, StepOutput


class Growth:
    """How far the networks have grown, a function of the images seen (section 2, figure 2).

    Stage s works at 4 * 2**s pixels. Each stage is trained for `stable_kimg`, then the next one fades in over
    `fade_kimg` while `alpha` rises from 0 to 1; the last stage lasts.
    """

    def __init__(self, last_stage: int, fade_kimg: float, stable_kimg: float):
        self.last_stage = last_stage
        self.fade = fade_kimg * 1000
        self.stable = stable_kimg * 1000

    def at(self, images: int) -> tuple[int, float]:
        """(stage, alpha) after `images` images; alpha is the weight of the newest layers, 1 when they stand alone."""
        phase = self.fade + self.stable
        if phase == 0:
            return self.last_stage, 1.0
        stage, into = int(images // phase), images % phase
        if into >= self.stable:
            # not 0: layers of weight 0 would get no gradient in the first step of their fade-in
            stage, alpha = stage + 1, (into - self.stable + 1) / (self.fade + 1)
        else:
            alpha = 1.0
        return (stage, alpha) if stage <= self.last_stage else (self.last_stage, 1.0)


class PixelNorm(nn.Module):
    """`pixel_norm` as a layer, for `width` feature maps or any other number."""

    def __init__(self, width: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return pixel_norm(x)


NORMS: dict[str, Callable[[int], nn.Module]] = {"pixel": PixelNorm, "batch": partial(nn.BatchNorm2d, affine=False)}


class GeneratorLayer(EqualizedConv2d):
    """A 3x3 convolution, activated and then normalised: (B, in, R, R) -> (B, out, R, R)."""

    def __init__(self, in_channels: int, out_channels: int, norm: Callable[[int], nn.Module]):
        super().__init__(in_channels, out_channels, 3)
        self.norm = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.leaky_relu(super().forward(x), 0.2))


class GeneratorBlock(nn.Sequential):
    """Two layers at twice the resolution: (B, wide, R, R) -> (B, narrow, 2R, 2R)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))


class DiscriminatorBlock(nn.ModuleList):
    """Two convolutions, then half the resolution: (B, narrow, R, R) -> (B, wide, R/2, R/2)."""

    def forward(self, x: Tensor) -> Tensor:
        for conv in self:
            x = F.leaky_relu(conv(x), 0.2)
        return F.avg_pool2d(x, 2)


class Generator(nn.Module):
    """Table 2, left: latents (B, latent_dim) -> images (B, C, R, R), R = 4 * 2**stage."""

    def __init__(self, latent_dim: int, widths: list[int], channels: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.project = EqualizedLinear(latent_dim, widths[0] * 16, gain=math.sqrt(2) / 4)
        # one bias for each channel, not for each of its 16 pixels
        self.project.bias = nn.Parameter(torch.zeros(widths[0]))
        self.norm = norm(widths[0])
        self.first = GeneratorLayer(widths[0], widths[0], norm)
        self.blocks = nn.ModuleList(
            GeneratorBlock(GeneratorLayer(wide, narrow, norm), GeneratorLayer(narrow, narrow, norm))
            for wide, narrow in itertools.pairwise(widths)
        )
        self.to_rgb = nn.ModuleList(EqualizedConv2d(width, channels, 1, gain=1.0) for width in widths)

    def forward(self, latents: Tensor, stage: int, alpha: float) -> Tensor:
        """Images at the resolution of `stage`; below alpha 1 blended with the enlarged image of the stage before."""
        latents = pixel_norm(latents)
        x = F.linear(latents, self.project.weight * self.project.scale).unflatten(1, (-1, 4, 4))
        x = self.norm(F.leaky_relu(x + self.project.bias.view(1, -1, 1, 1), 0.2))
        before = x = self.first(x)
        for block in self.blocks[:stage]:
            before, x = x, block(x)
        image = self.to_rgb[stage](x)
        if alpha < 1:
            coarse = F.interpolate(self.to_rgb[stage - 1](before), scale_factor=2, mode="nearest")
            image = torch.lerp(coarse, image, alpha)
        return image


class Discriminator(nn.Module):
    """Table 2, right: images (B, C, R, R), R = 4 * 2**stage -> critic values (B,)."""

    def __init__(self, widths: list[int], channels: int):
        super().__init__()
        self.from_rgb = nn.ModuleList(EqualizedConv2d(channels, width, 1) for width in widths)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock([EqualizedConv2d(narrow, narrow, 3), EqualizedConv2d(narrow, wide, 3)])
            for wide, narrow in itertools.pairwise(widths)
        )
        self.last = EqualizedConv2d(widths[0] + 1, widths[0], 3)
        self.dense = EqualizedLinear(widths[0] * 16, widths[0])
        self.value = EqualizedLinear(widths[0], 1, gain=1.0)

    def forward(self, images: Tensor, stage: int, alpha: float, batches: int = 1) -> Tensor:
        """The mirror image of the generator, fade-in included. Of several batches, joined, each one's deviation is of
        its own images."""
        x = F.leaky_relu(self.from_rgb[stage](images), 0.2)
        for depth in range(stage, 0, -1):
            x = self.blocks[depth - 1](x)
            if depth == stage and alpha < 1:
                coarse = F.leaky_relu(self.from_rgb[stage - 1](F.avg_pool2d(images, 2)), 0.2)
                x = torch.lerp(coarse, x, alpha)
        x = torch.cat([minibatch_stddev(batch) for batch in x.chunk(batches)])
        x = F.leaky_relu(self.last(x), 0.2)
        x = F.leaky_relu(self.dense(x.flatten(1)), 0.2)
        return self.value(x).squeeze(1)


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "width": 64,
    "width_base": 256,
    "lr": 2e-2,
    "norm": "batch",
    "loss": "non-saturating",
    "penalty": 1.0,
    "penalty_every": 4,
    "fade_kimg": 6.0,
    "stable_kimg": 6.0,
    "ema_halflife_kimg": 4.0,
}


class ProGAN(GenerativeModule):
    """Progressive growing: both networks start at 4x4 pixels and fade in larger layers as they learn.

    Differences from the paper: one batch size and one learning rate for all resolutions (the original shrinks the batch
    and raises the rate with the resolution), Adam's moments are kept when the networks grow, and the averaged
    generator's half-life is at most a twentieth of the images seen. The preset `quick` takes the loss that StyleGAN
    (Karras et al. 2019, section 2) has for its networks on FFHQ, as a step costs less, and batch norm in the generator,
    as the paper's baseline has it (section 6.1): shapes come sooner. `photographs` is that with a
    tenth of the penalty, in every update, and grows sooner.

    Args:
        image_shape: (channels, height, width); square, a power of two from 4 to 1024.
        latent_dim: Length of the latent vector.
        width: Feature maps at 4x4 pixels and the most that any layer has.
        width_base: Feature maps at resolution R are at most width_base * 2 / R.
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        critic_steps: Critic updates for each generator update.
        norm: What follows each layer of the generator. ``pixel``: pixel norm, as in the paper. ``batch``: batch norm,
            without weights of its own.
        loss: ``wasserstein``: WGAN-GP with drift, as in the paper. ``non-saturating``: Goodfellow's, with R1.
        penalty: Weight of the gradient penalty: lambda of WGAN-GP, or gamma of R1.
        penalty_every: Updates from one gradient penalty to the next, each of which counts for all of them ("lazy
            regularization", Karras et al. 2020, appendix B).
        drift: Weight of the drift penalty (epsilon) of ``wasserstein``.
        fade_kimg: Thousands of images over which a new resolution fades in.
        stable_kimg: Thousands of images for which each resolution is trained before the next one fades in.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Karras et al. 2018, Progressive Growing of GANs for Improved Quality, Stability, and Variation, https://arxiv.org/abs/1710.10196"
    recomputed = (GeneratorBlock, DiscriminatorBlock)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 1024, 1024)},
        "quick": QUICK,
        # under R1 of 1 the discriminator stays undecided
        "photographs": QUICK | {"penalty": 0.1, "penalty_every": 1, "fade_kimg": 2.0, "stable_kimg": 2.0},
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 19000, "data.batch_size": 16},  # the budget is that of the first published code
        "quick": {"kimg": 200, "data.batch_size": 16, "update.lr_decay": 0.4},
        "photographs": {"kimg": 70, "data.batch_size": 8, "update.lr_decay": 0.4},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        latent_dim: PositiveInt = 512,
        width: PositiveInt = 512,
        width_base: PositiveInt = 8192,
        lr: PositiveFloat = 1e-3,
        betas: tuple[Decay, Decay] = (0.0, 0.99),
        critic_steps: PositiveInt = 1,
        norm: Literal["pixel", "batch"] = "pixel",
        loss: Literal["wasserstein", "non-saturating"] = "wasserstein",
        penalty: NonNegativeFloat = 10.0,
        penalty_every: PositiveInt = 1,
        drift: NonNegativeFloat = 1e-3,
        fade_kimg: NonNegativeFloat = 800.0,
        stable_kimg: NonNegativeFloat = 800.0,
        ema_halflife_kimg: NonNegativeFloat = 11.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in (4 << stage for stage in range(9)):
            raise UserError(f"progan makes square images of 4, 8, 16 ... 1024 pixels, not {height} x {resolution}")
        if latent_dim == 1:
            raise UserError("progan normalises latents, which leaves of one its sign: --model.latent_dim 2 or more")
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        self.undecided = None if loss == "wasserstein" else 0.0
        last_stage = int(math.log2(resolution)) - 2
        widths = [min(width, max(1, 2 * width_base // (4 << stage))) for stage in range(last_stage + 1)]
        self.generator = Generator(latent_dim, widths, channels, NORMS[norm])
        self.discriminator = Discriminator(widths, channels)
        self.average("generator", ema_halflife_kimg)
        self.growth = Growth(last_stage, fade_kimg, stable_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(network.parameters(), self.hparams.lr, self.hparams.betas, eps=1e-8)
            for network in (self.discriminator, self.generator)
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        stage, alpha = self.growth.at(self.clock.images)
        wasserstein = self.hparams.loss == "wasserstein"
        every = self.hparams.penalty_every
        weight = self.hparams.penalty * every if self.trainer.global_step % every == 0 else 0.0
        for images in batch["image"].chunk(self.critic_steps):
            with self.update(opt_d) as step_d:
                for real in step_d.parts(images):
                    shrunk = self.shrink(real, stage, alpha).requires_grad_(weight > 0 and not wasserstein)
                    real = self.augmented(shrunk)
                    fake = self.augmented(self.generator(self.randn(len(real), self.latent_dim), stage, alpha))
                    if real.requires_grad:  # R1 differentiates this pass twice
                        logits_real = self.discriminator(real, stage, alpha)
                        logits_fake = self.discriminator(fake, stage, alpha)
                    else:  # one pass over both takes less time than two
                        both = self.discriminator(torch.cat([real, fake]), stage, alpha, batches=2)
                        logits_real, logits_fake = both.chunk(2)
                    if wasserstein:
                        loss_d = wasserstein_d(logits_real, logits_fake) + self.hparams.drift * drift(logits_real)
                    else:
                        loss_d = minimax_d(logits_real, logits_fake)
                    if weight > 0:
                        slope = (
                            gradient_penalty(
                                partial(self.discriminator, stage=stage, alpha=alpha), real, fake, self.rand(len(real))
                            )
                            if wasserstein
                            else zero_centred_penalty(logits_real, shrunk)
                        )
                        loss_d = loss_d + weight * slope
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real in step_g.parts(images):
                fake = self.generator(self.randn(len(real), self.latent_dim), stage, alpha)
                logits = self.discriminator(self.augmented(fake), stage, alpha)
                loss_g = wasserstein_g(logits) if wasserstein else non_saturating_g(logits)
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

    def shrink(self, images: Tensor, stage: int, alpha: float) -> Tensor:
        """Real images at the resolution of `stage`, faded as the generator's are (appendix A.1)."""
        images = F.avg_pool2d(images, 2 ** (self.growth.last_stage - stage))
        if alpha < 1:
            coarse = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="nearest")
            images = torch.lerp(coarse, images, alpha)
        return images

    def as_drawn_now(self, images: Tensor) -> Tensor:
        stage, alpha = self.growth.at(self.clock.images)
        if (stage, alpha) == (self.growth.last_stage, 1.0):
            return images
        return F.interpolate(self.shrink(images, stage, alpha), size=self.image_shape[1:], mode="nearest")

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        stage, alpha = self.growth.at(self.clock.images)
        images = self.averaged("generator")(latents, stage, alpha)
        return F.interpolate(images, size=self.image_shape[1:], mode="nearest")
