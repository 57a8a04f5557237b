"""R3GAN: Huang, Gokaslan, Kuleshov, Tompkin, NeurIPS 2024, https://arxiv.org/abs/2501.05441

Original code: https://github.com/brownvc/R3GAN. This file is written from the paper.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.augment import ADA
from lightning_gen.errors import UserError, without_labels
from lightning_gen.layers import blur, decoder, encoder
from lightning_gen.losses import relativistic_d, relativistic_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput

EXPANSION = 2
"""Feature maps inside a residual block for each one outside: the inverted bottleneck of section 4.1, config E."""
LEAKY = math.sqrt(2 / (1 + 0.2**2))
"""He's gain in front of a leaky ReLU of slope 0.2."""


def conv(in_channels: int, out_channels: int, kernel: int = 1, gain: float = 1.0, groups: int = 1) -> nn.Conv2d:
    """Convolution without bias that keeps the size, weights from N(0, gain^2 / fan in)."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(kernel**2 * in_channels // groups))
    return layer


class BiasedActivation(nn.Module):
    """A bias for each channel, then leaky ReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias.view(-1, 1, 1), 0.2)


class ResidualBlock(nn.Sequential):
    """Config E: 1x1, grouped 3x3 and 1x1 convolution, no normalisation; (B, C, R, R) to the same.

    Instead of normalising, fix-up initialisation (Zhang et al. 2019): the last layer starts at 0, the others smaller by
    L^(-1/4), L being the blocks of the network, so that its output does not grow with the depth.
    """

    def __init__(self, channels: int, group_width: int, blocks: int):
        inner, gain = EXPANSION * channels, LEAKY * blocks**-0.25
        super().__init__(
            conv(channels, inner, 1, gain),
            BiasedActivation(inner),
            conv(inner, inner, 3, gain, groups=max(1, inner // group_width)),
            BiasedActivation(inner),
            conv(inner, channels, 1, 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def stage(channels: int, count: int, group_width: int, of: int) -> nn.Sequential:
    """The `count` blocks of one resolution, in a network that has `of` blocks in all."""
    return nn.Sequential(*(ResidualBlock(channels, group_width, of) for _ in range(count)))


class Halved(nn.Module):
    """(B, C, R, R) -> (B, C, R/2, R/2), low-pass."""

    def forward(self, x: Tensor) -> Tensor:
        return blur(x, padding=1, stride=2)


def resized(in_channels: int, out_channels: int, up: bool) -> nn.Sequential:
    """Resampling by the filter [1, 3, 3, 1], and a 1x1 convolution where the widths differ, at the smaller size."""
    change = [conv(in_channels, out_channels)] if in_channels != out_channels else []
    if up:
        # bilinear: the same filter, but for what is beyond the border
        return nn.Sequential(*change, nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(Halved(), *change)


class Generator(nn.Module):
    """Latents (B, latent_dim), labels (B,) where there are classes -> images (B, C, R, R)."""

    def __init__(
        self, latent_dim: int, widths: list[int], depth: int, group_width: int, num_classes: int, channels: int
    ):
        super().__init__()
        self.classes = nn.Embedding(num_classes, latent_dim) if num_classes else None
        dim = 2 * latent_dim if num_classes else latent_dim
        # the 4x4 basis, each of whose channels the latent scales
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.scales = nn.Linear(dim, widths[0], bias=False)
        nn.init.normal_(self.scales.weight, 0.0, 1 / math.sqrt(dim))
        total = depth * len(widths)
        self.stages = nn.Sequential(stage(widths[0], depth, group_width, total))
        for wide, narrow in itertools.pairwise(widths):
            self.stages.append(nn.Sequential(resized(wide, narrow, up=True), stage(narrow, depth, group_width, total)))
        self.to_rgb = conv(widths[-1], channels)

    def forward(self, latents: Tensor, label: Tensor | None = None) -> Tensor:
        if self.classes is not None:
            latents = torch.cat([latents, self.classes(label)], dim=1)
        return self.to_rgb(self.stages(self.scales(latents)[:, :, None, None] * self.basis))


class Discriminator(nn.Module):
    """The mirror image: images (B, C, R, R), labels (B,) where there are classes -> logits (B,).

    With classes the last layer gives a vector, and the logit is its product with the label's.
    """

    def __init__(self, widths: list[int], depth: int, group_width: int, num_classes: int, channels: int):
        super().__init__()
        total = depth * len(widths)
        self.from_rgb = conv(channels, widths[-1])
        self.stages = nn.Sequential()
        for wide, narrow in reversed([*itertools.pairwise(widths)]):
            self.stages.append(nn.Sequential(stage(narrow, depth, group_width, total), resized(narrow, wide, up=False)))
        self.stages.append(stage(widths[0], depth, group_width, total))
        # each channel's product with a 4x4 basis of its own
        self.basis = nn.Conv2d(widths[0], widths[0], 4, groups=widths[0], bias=False)
        nn.init.normal_(self.basis.weight, 0.0, 1 / 4)
        self.head = nn.Linear(widths[0], widths[0] if num_classes else 1, bias=False)
        nn.init.normal_(self.head.weight, 0.0, 1 / math.sqrt(widths[0]))
        self.classes = nn.Embedding(num_classes, widths[0]) if num_classes else None
        if self.classes is not None:
            nn.init.normal_(self.classes.weight, 0.0, 1 / math.sqrt(widths[0]))

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.head(self.basis(self.stages(self.from_rgb(images))).flatten(1))
        return x.squeeze(1) if self.classes is None else (x * self.classes(label)).sum(1)


class PointGenerator(nn.Sequential):
    """Latents (B, latent_dim) -> points (B, C, 1, 1), through three dense layers."""

    def __init__(self, latent_dim: int, width: int, channels: int):
        super().__init__(decoder((channels, 1, 1), (), [width] * 3, latent_dim), nn.Tanh())

    def forward(self, latents: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(latents)


class PointDiscriminator(nn.Sequential):
    """Points (B, C, 1, 1) -> logits (B,), through three dense layers."""

    def __init__(self, width: int, channels: int):
        super().__init__(encoder((channels, 1, 1), (), [width] * 3, 1), nn.Flatten(0))

    def forward(self, points: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(points)


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "conditional": True,
    "latent_dim": 16,
    "width": 64,
    "width_base": 512,
    "blocks": 1,
    "lr": 2e-3,
    "lr_final": 2e-3,
    "betas": (0.0, 0.99),
    "penalty": 10.0,
    "penalty_final": 1.0,
    "burn_in_kimg": 40.0,
    "ema_halflife_kimg": 4.0,
}


class R3GAN(GenerativeModule):
    """Regularised relativistic GAN: each fake is paired with a real image, both are penalised; plain modern ResNets.

    Differences from the paper: the averaged generator's half-life is at most a twentieth of the images seen, instead of
    rising with a cosine. What the paper leaves open: label vectors are drawn from N(0, 1) in the generator and
    from N(0, 1 / width) in the discriminator. Halving is by the published code's filter, and so is enlarging, where
    the border goes on outside in the place of zeros.

    Images of one pixel are points, which the paper does not have: dense networks, without labels.

    With `--augment.kind ada` the probability is a schedule here, as in the paper, since logits that only pairs define
    have no sign to adapt to. The published pipeline changes colours half as often, and cuts out squares, which ours
    does not.

    Args:
        image_shape: (channels, height, width); square, a power of two from 8 to 512, or 1 for points.
        num_classes: Number of labels; the data says it.
        conditional: Whether images are drawn for a label.
        latent_dim: Length of the latent vector.
        width: Feature maps at 4x4 pixels and the most that any resolution has; for points, units of every layer.
        width_base: Feature maps at resolution R are at most width_base / R.
        blocks: Residual blocks of each resolution.
        group_width: Feature maps of a group in the 3x3 convolutions.
        lr: Learning rate of both networks at the start.
        lr_final: Learning rate at the end of the burn-in, which it keeps.
        betas: Adam's decay rates at the start.
        beta2_final: Adam's second decay rate at the end of the burn-in.
        critic_steps: Discriminator updates for each generator update.
        penalty: Weight of the zero-centred gradient penalties on real and on fake images (gamma of R1 and R2) at the
            start.
        penalty_final: The same at the end of the burn-in.
        augment_final: Probability of each transformation of `--augment.kind ada` at the end of the burn-in; 0 before.
        burn_in_kimg: Thousands of images in which rates, weights and probability go to their final values, along half a
            cosine.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = (
        "Huang et al. 2024, The GAN is dead; long live the GAN! A Modern GAN Baseline, https://arxiv.org/abs/2501.05441"
    )
    recomputed = (ResidualBlock,)
    sets_ada = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 32, 32), "num_classes": 10, "conditional": True},
        "quick": QUICK,
        # less of both penalties, as progan wants it there; other weights were not tried
        "photographs": QUICK | {"penalty": 3.0, "penalty_final": 0.3, "burn_in_kimg": 20.0},
        "points": {
            "image_shape": (2, 1, 1),
            "latent_dim": 2,
            "width": 128,
            "lr": 1e-3,
            "lr_final": 1e-3,
            "penalty": 0.01,
            "penalty_final": 0.001,
            "burn_in_kimg": 500.0,
            "ema_halflife_kimg": 0.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 250_000, "data.batch_size": 512, "augment.kind": "ada"},
        "points": {"kimg": 2000, "data.batch_size": 256, "update.lr_decay": 0.5},
        "quick": {"kimg": 60, "data.batch_size": 8, "update.lr_decay": 0.5},
        "photographs": {"kimg": 32, "data.batch_size": 8, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: NonNegativeInt = 10,
        conditional: bool = False,
        latent_dim: PositiveInt = 64,
        width: PositiveInt = 768,
        width_base: PositiveInt = 24576,
        blocks: PositiveInt = 2,
        group_width: PositiveInt = 16,
        lr: PositiveFloat = 2e-4,
        lr_final: PositiveFloat = 5e-5,
        betas: tuple[Decay, Decay] = (0.0, 0.9),
        beta2_final: Decay = 0.99,
        critic_steps: PositiveInt = 1,
        penalty: NonNegativeFloat = 0.05,
        penalty_final: NonNegativeFloat = 0.005,
        augment_final: ClosedUnitInterval = 0.55,
        burn_in_kimg: NonNegativeFloat = 20_000.0,
        ema_halflife_kimg: NonNegativeFloat = 5_000.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in (1, *(8 << doubling for doubling in range(7))):
            raise UserError(
                f"r3gan makes points and square images of 8, 16, 32 ... 512 pixels, not {height} x {resolution}"
            )
        if conditional and num_classes == 0:
            raise without_labels("r3gan", optional=True)
        self.num_classes = num_classes if conditional else 0
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        self.generator: nn.Module
        self.discriminator: nn.Module
        if resolution == 1:
            if conditional:
                raise UserError("r3gan draws points without labels: leave out --model.conditional")
            self.generator = PointGenerator(latent_dim, width, channels)
            self.discriminator = PointDiscriminator(width, channels)
            self.average("generator", ema_halflife_kimg)
            return
        widths = [min(width, max(1, width_base // (4 << depth))) for depth in range(int(math.log2(resolution)) - 1)]
        for feature_maps in widths:
            if EXPANSION * feature_maps > group_width and EXPANSION * feature_maps % group_width:
                raise UserError(
                    f"--model.group_width {group_width} does not divide {EXPANSION * feature_maps}, the feature maps "
                    f"inside a block of width {feature_maps}"
                )
        self.generator = Generator(latent_dim, widths, blocks, group_width, self.num_classes, channels)
        self.discriminator = Discriminator(widths, blocks, group_width, self.num_classes, channels)
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(network.parameters(), self.hparams.lr, self.hparams.betas)
            for network in (self.discriminator, self.generator)
        ]

    def burnt_in(self, first: float, last: float) -> float:
        """What goes from `first` to `last` in the burn-in, at this moment of the run."""
        burn_in = self.hparams.burn_in_kimg
        share = min(1.0, self.clock.kimg / burn_in) if burn_in else 1.0
        return last + (first - last) * (1 + math.cos(math.pi * share)) / 2

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        gamma = self.anneal(opt_d, opt_g)
        labels = batch["label"] if self.num_classes else batch["image"].new_zeros(len(batch["image"]))
        chunks = zip(batch["image"].chunk(self.critic_steps), labels.chunk(self.critic_steps), strict=True)
        for images, labels in chunks:
            with self.update(opt_d) as step_d:
                for real, label in step_d.parts(images, labels):
                    fake = self.generator(self.randn(len(real), self.latent_dim), label).requires_grad_()
                    real = real.requires_grad_()
                    logits_real = self.discriminator(self.augmented(real), label)
                    logits_fake = self.discriminator(self.augmented(fake), label)
                    loss_d = relativistic_d(logits_real, logits_fake)
                    penalties = zero_centred_penalty(logits_real, real) + zero_centred_penalty(logits_fake, fake)
                    step_d.backward(loss_d + gamma * penalties)
        with self.update(opt_g) as step_g:
            for real, label in step_g.parts(images, labels):
                fake = self.generator(self.randn(len(real), self.latent_dim), label)
                loss_g = relativistic_g(
                    self.discriminator(self.augmented(real), label), self.discriminator(self.augmented(fake), label)
                )
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

    def anneal(self, *optimizers: Any) -> float:
        """Set what the burn-in changes to where the clock stands, and return the penalties' weight."""
        weights = self.hparams
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                # what `update` multiplies with the run's own schedule
                group["initial_lr"] = self.burnt_in(weights.lr, weights.lr_final)
                group["betas"] = (weights.betas[0], self.burnt_in(weights.betas[1], weights.beta2_final))
        if isinstance(self.augment, ADA):
            self.augment.strength = self.burnt_in(0.0, weights.augment_final)
        return self.burnt_in(weights.penalty, weights.penalty_final)

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return self.averaged("generator")(latents, None if condition is None else condition["label"])
