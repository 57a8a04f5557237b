"""Photo-realistic single image super-resolution using a GAN: Ledig et al., CVPR 2017, https://arxiv.org/abs/1609.04802

The authors published no code. Networks after the paper's figure 4.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.losses import minimax_d, non_saturating_g
from lightning_gen.module import Decay, GenerativeModule, StepOutput
from lightning_gen.perceptual import Perceptual, PerceptualLoss
from lightning_gen.translators import in_pieces


class Residual(nn.Module):
    """k3n64s1, batch norm, PReLU, k3n64s1, batch norm, and the sum: (B, width, h, w) to the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class SRResNet(nn.Module):
    """Figure 4, top: low (B, C, h, w) -> high (B, C, factor h, factor w), both in [-1, 1], any size.

    The last layer is linear, as drawn; what it makes is cut to the range where it becomes a picture.
    """

    def __init__(self, channels: int, width: int, blocks: int, factor: int):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(
            *(Residual(width) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        )
        doublings: list[nn.Module] = []
        for _ in range(int(math.log2(factor))):
            doublings += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
        self.up = nn.Sequential(*doublings, nn.Conv2d(width, channels, 9, padding=4))

    def forward(self, low: Tensor) -> Tensor:
        x = self.first(low)
        return self.up(x + self.blocks(x))


class Discriminator(nn.Module):
    """Figure 4, bottom: high (B, C, H, W) -> logits (B,), of one size; the dense layers see 1/16 of each side."""

    def __init__(self, image_shape: tuple[int, int, int], width: int, dense: int):
        super().__init__()
        channels, height, resolution = image_shape
        widths = [width, width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for depth, (ins, outs) in enumerate(itertools.pairwise(widths)):
            stride = 2 if depth % 2 == 0 else 1
            layers += [nn.Conv2d(ins, outs, 3, stride, 1), nn.BatchNorm2d(outs), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(widths[-1] * math.ceil(height / 16) * math.ceil(resolution / 16), dense),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(dense, 1),
        )

    def forward(self, high: Tensor) -> Tensor:
        return self.head(self.layers(high)).squeeze(1)


class SRGAN(GenerativeModule):
    """Super-resolution by 2, 4 or 8: SRResNet by squared error, then adversarially with a perceptual loss.

    Differences from the paper: one run holds both phases, `pretrain_kimg` being the border; over all of it
    `low` lies in [-1, 1], not [0, 1]; the learning rate of the adversarial phase does not fall to a tenth half way
    (`update.lr_decay` lets it fall linearly at the end). `perceptual: tiny` is a stand-in of ours for VGG19 where
    nothing can be downloaded: other weights of the losses fit it. With `pretrain_kimg` as large as the budget the model
    is SRResNet.

    Args:
        image_shape: (channels, height, width) of the large crops; square, a multiple of 16.
        factor: How many times larger the sides get: 2, 4 or 8.
        width: Feature maps of the generator, and of the discriminator's first layer.
        blocks: Residual blocks of the generator.
        dense: Units of the discriminator's dense layer.
        pretrain_kimg: Thousands of images that the generator is trained on by squared error alone.
        perceptual: Whose features are compared in the second phase: vgg19, or tiny, which needs no download.
        weight_perceptual: Weight of the distance of the features.
        weight_pixels: Weight of the squared error in the second phase; the paper's is 0.
        weight_adversarial: Weight of the adversarial loss.
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = (
        "Ledig et al. 2017, Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, "
        "https://arxiv.org/abs/1609.04802"
    )
    views = ("low", "high")
    usual_data = "super-resolution"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 96, 96)},
        "quick": {
            "image_shape": (3, 32, 32),
            "width": 32,
            "blocks": 4,
            "dense": 128,
            "pretrain_kimg": 24.0,
            "perceptual": "tiny",
            "weight_perceptual": 0.01,
            "weight_pixels": 1.0,
            "lr": 1e-3,
            "ema_halflife_kimg": 0.5,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 19200, "data.batch_size": 16, "data.flip": True},
        "quick": {"kimg": 48, "data.batch_size": 16, "update.lr_decay": 0.5},
    }
    checked: ClassVar[dict[str, Any]] = {"width": 8, "blocks": 1, "dense": 16, "pretrain_kimg": 0.008}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 96, 96),
        factor: Literal[2, 4, 8] = 4,
        width: PositiveInt = 64,
        blocks: PositiveInt = 16,
        dense: PositiveInt = 1024,
        pretrain_kimg: NonNegativeFloat = 16000.0,
        perceptual: Perceptual = "vgg19",
        weight_perceptual: NonNegativeFloat = 1.0,
        weight_pixels: NonNegativeFloat = 0.0,
        weight_adversarial: NonNegativeFloat = 1e-3,
        lr: PositiveFloat = 1e-4,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution % 16:
            raise UserError(f"srgan learns from square crops, a multiple of 16 pixels, not {height} x {resolution}")
        self.input_shape = (channels, height // factor, resolution // factor)
        # what convolutions of 9, 3 and again 9 pixels see to one side, the last two of the enlarged picture
        self.reach = 4 + 2 * blocks + 1 + 2 + math.ceil(4 / factor)
        self.generator = SRResNet(channels, width, blocks, factor)
        self.discriminator = Discriminator(self.image_shape, width, dense)
        self.average("generator", ema_halflife_kimg)
        self._perceptual: PerceptualLoss | None = None

    def on_fit_start(self) -> None:
        """Weights that are missing are missed now, not after the first phase."""
        super().on_fit_start()
        self._perceptual = PerceptualLoss(self.hparams.perceptual)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(network.parameters(), self.hparams.lr, self.hparams.betas)
            for network in (self.discriminator, self.generator)
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        if self.clock.kimg < self.hparams.pretrain_kimg:
            return self.pretraining_step(batch["low"], batch["high"])
        opt_d, opt_g = self.optimizers()
        assert self._perceptual is not None
        low, high, weights = batch["low"], batch["high"], self.hparams
        made = self.generator(low)
        with self.update(opt_d) as step_d:
            logits_real = self.discriminator(self.augmented(high))
            logits_fake = self.discriminator(self.augmented(made.detach()))
            loss_d = minimax_d(logits_real, logits_fake)
            step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            loss_g = non_saturating_g(self.discriminator(self.augmented(made)))
            pixels = F.mse_loss(made.float(), high.float())
            content = weights.weight_perceptual * self._perceptual(made, high) + weights.weight_pixels * pixels
            step_g.backward(content + weights.weight_adversarial * loss_g)
        return self.step_output(
            len(low),
            loss_d=loss_d,
            loss_g=loss_g,
            reconstruction=pixels,
            logits_real=logits_real,
            logits_fake=logits_fake,
            grad_norm_d=step_d.grad_norm,
            grad_norm_g=step_g.grad_norm,
        )

    def pretraining_step(self, low: Tensor, high: Tensor) -> StepOutput:
        """SRResNet: equation 4 alone."""
        _, opt_g = self.optimizers()
        with self.update(opt_g) as step_g:
            pixels = F.mse_loss(self.generator(low).float(), high.float())
            step_g.backward(pixels)
        return self.step_output(len(low), loss=pixels, reconstruction=pixels, grad_norm_g=step_g.grad_norm)

    def generate(self, latents: None, condition: dict[str, Tensor]) -> Tensor:
        """`condition["low"]`, enlarged."""
        return in_pieces(self.averaged("generator"), condition["low"], 16).clamp(-1, 1)
