"""Least squares GAN: Mao et al., ICCV 2017, https://arxiv.org/abs/1611.04076

Original code (TensorFlow): https://github.com/xudonmao/LSGAN
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.layers import first_weights, normed
from lightning_gen.losses import least_squares_d, least_squares_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput


def generator(latent_dim: int, width: int, side: int, channels: int) -> nn.Sequential:
    """Figure 1 (a): latents (B, latent_dim) -> images (B, C, 16 side, 16 side) in [-1, 1].

    Transposed 3x3 convolutions; two of those that double the size are followed by one that keeps it.
    """

    def deconv(wide: int, narrow: int, stride: int) -> list[nn.Module]:
        return normed(nn.ConvTranspose2d(wide, narrow, 3, stride=stride, padding=1, output_padding=stride - 1))

    first = 4 * width
    return nn.Sequential(
        nn.Linear(latent_dim, first * side**2),
        nn.Unflatten(1, (first, side, side)),
        nn.BatchNorm2d(first),
        nn.ReLU(inplace=True),
        *deconv(first, first, stride=2),
        *deconv(first, first, stride=1),
        *deconv(first, first, stride=2),
        *deconv(first, first, stride=1),
        *deconv(first, 2 * width, stride=2),
        *deconv(2 * width, width, stride=2),
        nn.ConvTranspose2d(width, channels, 3, padding=1),
        nn.Tanh(),
    )


def discriminator(width: int, side: int, channels: int, batch_norm: bool) -> nn.Sequential:
    """Figure 1 (b): images (B, C, 16 side, 16 side) -> values (B,), aimed at 1 for real and 0 for generated images."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 5, stride=2, padding=2), nn.LeakyReLU(0.2, inplace=True)]
    for _ in range(3):
        layers.append(nn.Conv2d(width, 2 * width, 5, stride=2, padding=2))
        if batch_norm:
            layers.append(nn.BatchNorm2d(2 * width))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        width *= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side**2, 1), nn.Flatten(0))


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "width": 16,
    "discriminator_width": 16,
    "lr": 1e-3,
    "betas": (0.0, 0.99),
    "discriminator_norm": False,
    "penalty": 10.0,
    "ema_halflife_kimg": 5.0,
}


class LSGAN(GenerativeModule):
    """Least squares in place of cross-entropy: fakes on the right side are still drawn towards the real ones.

    Equation 9 (real 1, fake 0), as in the paper's experiments. Differences from the paper: latents are normal (the
    paper does not say; the published code's are uniform). The preset `quick` leaves batch norm out of the
    discriminator, whose weights then begin as He et al. 2015 have them, and adds R1, which the paper does not have.

    Args:
        image_shape: (channels, height, width); square, a multiple of 16 from 32 to 128 pixels.
        latent_dim: Length of the latent vector.
        width: Feature maps of the generator's layer nearest the image (64 in the paper); they double towards others.
        discriminator_width: The same for the discriminator.
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        discriminator_norm: Whether the discriminator has batch norm (the paper also trains without).
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0, as in the paper, is none.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Mao et al. 2017, Least Squares Generative Adversarial Networks, https://arxiv.org/abs/1611.04076"
    undecided = 0.5  # between the 0 of fakes and the 1 of real images
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 112, 112)},
        "quick": QUICK,
        "photographs": QUICK | {"latent_dim": 64, "penalty": 1.0},
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 30000, "data.batch_size": 64},
        "quick": {"kimg": 240, "data.batch_size": 16, "update.lr_decay": 0.5},
        "photographs": {"kimg": 160, "data.batch_size": 16, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 64, 64),
        latent_dim: PositiveInt = 1024,
        width: PositiveInt = 64,
        discriminator_width: PositiveInt = 64,
        lr: PositiveFloat = 1e-3,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        critic_steps: PositiveInt = 1,
        discriminator_norm: bool = True,
        penalty: NonNegativeFloat = 0.0,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution % 16 or not 32 <= resolution <= 128:
            raise UserError(
                f"lsgan makes square images of 32 to 128 pixels, a multiple of 16, not {height} x {resolution}"
            )
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        self.generator = generator(latent_dim, width, resolution // 16, channels)
        self.discriminator = discriminator(discriminator_width, resolution // 16, channels, discriminator_norm)
        first_weights(self.generator)
        first_weights(self.discriminator)
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
                    fake = self.generator(self.randn(len(real), self.latent_dim))
                    real.requires_grad_(self.hparams.penalty > 0)
                    logits_real = self.discriminator(self.augmented(real))
                    logits_fake = self.discriminator(self.augmented(fake))
                    loss_d = least_squares_d(logits_real, logits_fake)
                    if self.hparams.penalty > 0:
                        loss_d = loss_d + self.hparams.penalty * zero_centred_penalty(logits_real, real)
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real in step_g.parts(images):
                fake = self.generator(self.randn(len(real), self.latent_dim))
                loss_g = least_squares_g(self.discriminator(self.augmented(fake)))
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
