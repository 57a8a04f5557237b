"""Image-to-image translation with conditional adversarial networks: Isola, Zhu, Zhou, Efros, CVPR 2017

https://arxiv.org/abs/1611.07004. Original code (Lua Torch): https://github.com/phillipi/pix2pix, models.lua
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.layers import normal_weights
from lightning_gen.losses import minimax_d, non_saturating_g
from lightning_gen.module import Decay, GenerativeModule, StepOutput
from lightning_gen.translators import Norm, Patch, PatchDiscriminator, ResNetGenerator, in_pieces, normalisation

DROPPED = 3
"""Layers of the U-Net's decoder, next to the innermost, that drop half of their maps."""


class UNet(nn.Module):
    """Appendix 6.1.1: an encoder to one pixel, and a decoder that sees the encoder's maps of each size again.

    (B, ins, H, W) -> (B, outs, H, W) in [-1, 1]; H and W are multiples of 2**halvings.
    """

    def __init__(self, ins: int, outs: int, width: int, halvings: int, norm: Norm):
        super().__init__()
        self.stride = 1 << halvings
        widths = [min(width << depth, 8 * width) for depth in range(halvings)]
        bias = norm == "instance"
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for depth, wide in enumerate(widths):
            conv = nn.Conv2d(widths[depth - 1] if depth else ins, wide, 4, stride=2, padding=1, bias=bias)
            # no norm next to the picture, none over the single pixel of the innermost maps
            plain = depth in (0, halvings - 1)
            before = [] if depth == 0 else [nn.LeakyReLU(0.2)]
            self.down.append(nn.Sequential(*before, conv, *([] if plain else [normalisation(norm, wide)])))
        for depth in reversed(range(1, halvings)):
            seen = widths[depth] if depth == halvings - 1 else 2 * widths[depth]
            conv_up = nn.ConvTranspose2d(seen, widths[depth - 1], 4, stride=2, padding=1, bias=bias)
            drop = [nn.Dropout(0.5)] if 0 < halvings - 1 - depth <= DROPPED and widths[depth - 1] == 8 * width else []
            self.up.append(nn.Sequential(nn.ReLU(), conv_up, normalisation(norm, widths[depth - 1]), *drop))
        self.last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * width, outs, 4, stride=2, padding=1), nn.Tanh())

    def forward(self, pictures: Tensor) -> Tensor:
        """Down, and up with what was seen on the way down beside it."""
        x, seen = pictures, []
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        for layer, beside in zip(self.up, reversed(seen[:-1]), strict=True):
            x = torch.cat([beside, layer(x)], dim=1)
        return self.last(x)


class Pix2Pix(GenerativeModule):
    """Image to image from pairs: a U-Net, judged patch by patch beside its source, and by L1.

    Differences from the paper: its only noise, dropout, is off in samples, so that a picture has one translation. As in
    the paper batch norm takes the statistics of the pictures that are translated, but of each picture alone, so that a
    translation does not depend on its neighbours: with `data.batch_size` 1, the paper's for most tasks, that is what
    training saw; with larger batches take the instance norm.

    Args:
        image_shape: (channels, height, width) of the pictures that are made; square, for the U-Net a power of two.
        source_channels: Channels of the pictures that are started from.
        generator_kind: `unet`, with one halving for each doubling of the resolution, or `resnet` (Johnson et al. 2016).
        width: Feature maps of both networks' first layers.
        blocks: Residual blocks of `resnet`.
        norm: Batch or instance normalisation.
        patch: Side of the patches that the discriminator judges: 1, 16 or 70 pixels.
        weight_l1: Weight of the L1 distance to the target (lambda).
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = (
        "Isola et al. 2017, Image-to-Image Translation with Conditional Adversarial Networks, "
        "https://arxiv.org/abs/1611.07004"
    )
    views = ("source", "target")
    usual_data = "paired"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 256, 256)},
        "paper-128": {"image_shape": (3, 128, 128)},
        "quick": {
            "image_shape": (3, 32, 32),
            "width": 24,
            "norm": "instance",
            "patch": 16,
            "lr": 5e-4,
            "ema_halflife_kimg": 1.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 80, "data.batch_size": 1, "data.flip": True, "update.lr_decay": 0.5},
        "paper-128": {"kimg": 80, "data.batch_size": 1, "data.flip": True, "update.lr_decay": 0.5},
        "quick": {"kimg": 24, "data.batch_size": 16, "update.lr_decay": 0.5},
    }
    checked: ClassVar[dict[str, Any]] = {"width": 8}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 256, 256),
        source_channels: PositiveInt = 3,
        generator_kind: Literal["unet", "resnet"] = "unet",
        width: PositiveInt = 64,
        blocks: PositiveInt = 9,
        norm: Norm = "batch",
        patch: Patch = 70,
        weight_l1: NonNegativeFloat = 100.0,
        lr: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in (16 << stage for stage in range(7)):
            raise UserError(f"pix2pix makes square images of 16, 32, 64 ... 1024 pixels, not {height} x {resolution}")
        if patch == 70 and resolution < 32:
            raise UserError("--model.patch 70: images of 32 pixels or more; 16 and 1 are the smaller patches")
        self.input_shape = (source_channels, height, resolution)
        if generator_kind == "unet":
            self.generator: nn.Module = UNet(source_channels, channels, width, int(math.log2(resolution)), norm)
        else:
            self.generator = ResNetGenerator(source_channels, channels, width, blocks, norm, dropout=True)
        self.stride = self.generator.stride
        self.discriminator = PatchDiscriminator(source_channels + channels, width, patch, norm)
        self.apply(normal_weights)
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(network.parameters(), self.hparams.lr, self.hparams.betas)
            for network in (self.discriminator, self.generator)
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        source, target = batch["source"], batch["target"]
        fake = self.generator(source)  # once for both updates: neither changes what the other needs of it
        with self.update(opt_d) as step_d:
            logits_real, logits_fake = self.judged(source, target), self.judged(source, fake.detach())
            loss_d = minimax_d(logits_real, logits_fake)
            step_d.backward(loss_d / 2)  # to slow D down beside G (section 3.3)
        with self.update(opt_g) as step_g:
            distance = F.l1_loss(fake.float(), target.float())
            loss_g = non_saturating_g(self.judged(source, fake))
            step_g.backward(loss_g + self.hparams.weight_l1 * distance)
        return self.step_output(
            len(source),
            loss_d=loss_d,
            loss_g=loss_g,
            reconstruction=distance,
            logits_real=logits_real,
            logits_fake=logits_fake,
            grad_norm_d=step_d.grad_norm,
            grad_norm_g=step_g.grad_norm,
        )

    def judged(self, source: Tensor, image: Tensor) -> Tensor:
        """Logits (B, patches) of pairs: D sees the source beside the image, real or made (section 3.1)."""
        return self.discriminator(self.augmented(torch.cat([source, image.to(source.dtype)], dim=1)))

    def generate(self, latents: None, condition: dict[str, Tensor]) -> Tensor:
        """Translations of `condition["source"]`."""
        return in_pieces(self.averaged("generator"), condition["source"], 16)
