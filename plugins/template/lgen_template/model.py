"""Generative adversarial nets: Goodfellow et al., NeurIPS 2014, https://arxiv.org/abs/1406.2661"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.losses import minimax_d, non_saturating_g, zero_centred_penalty
from lightning_gen.module import GenerativeModule, StepOutput


def up(wide: int, narrow: int) -> nn.Sequential:
    """Twice the size: (B, wide, H, W) -> (B, narrow, 2H, 2W)."""
    return nn.Sequential(nn.BatchNorm2d(wide), nn.ReLU(), nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1))


def down(narrow: int, wide: int) -> nn.Sequential:
    """Half the size: (B, narrow, H, W) -> (B, wide, H/2, W/2)."""
    return nn.Sequential(nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2))


class Template(GenerativeModule):
    """A small convolutional GAN to start from: the shortest model that keeps the whole contract.

    Differences from the paper: convolutions in place of dense layers, normal latents, Adam, an averaged generator, and
    a penalty on the slope of the discriminator (Mescheder et al. 2018), without which it learns far more slowly.

    Args:
        image_shape: (channels, height, width); both sides divisible by 8.
        latent_dim: Length of the latent vector.
        width: Feature maps of the layers nearest the image.
        lr: Learning rate of both networks.
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0 is none.
    """

    paper = "Goodfellow et al. 2014, Generative Adversarial Nets, https://arxiv.org/abs/1406.2661"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"latent_dim": 100, "penalty": 0.0},
        "quick": {"width": 32},
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"kimg": 60, "data.batch_size": 32}}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        latent_dim: PositiveInt = 64,
        width: PositiveInt = 64,
        lr: PositiveFloat = 1e-3,
        penalty: NonNegativeFloat = 0.3,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, breadth = self.image_shape = image_shape
        if height % 8 or breadth % 8:
            raise UserError(f"template makes images with sides divisible by 8, not {height} x {breadth}")
        self.latent_dim = latent_dim
        small = (4 * width, height // 8, breadth // 8)
        size = small[0] * small[1] * small[2]
        self.generator = nn.Sequential(
            nn.Linear(latent_dim, size),
            nn.Unflatten(1, small),
            up(4 * width, 2 * width),
            up(2 * width, width),
            up(width, channels),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            down(channels, width),
            down(width, 2 * width),
            down(2 * width, 4 * width),
            nn.Flatten(),
            nn.Linear(size, 1),
        )
        self.average("generator", halflife_kimg=2.0)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimizer for each network, in the order in which `training_step` takes them."""
        networks = (self.discriminator, self.generator)
        return [torch.optim.Adam(network.parameters(), self.hparams.lr, (0.5, 0.999)) for network in networks]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        """Algorithm 1 of the paper with k = 1, and the generator's loss of its section 3."""
        real = batch["image"].requires_grad_()  # (B, C, H, W) in [-1, 1]; the penalty asks for the slope there
        opt_d, opt_g = self.optimizers()
        with self.update(opt_d) as step_d:  # only the discriminator takes gradients; the step is taken at the end
            fake = self.generator(self.randn(len(real), self.latent_dim))
            logits_real, logits_fake = self.discriminator(real), self.discriminator(fake)
            loss_d = minimax_d(logits_real, logits_fake)
            step_d.backward(loss_d + self.hparams.penalty * zero_centred_penalty(logits_real, real))
        with self.update(opt_g) as step_g:
            fake = self.generator(self.randn(len(real), self.latent_dim))
            loss_g = non_saturating_g(self.discriminator(fake))
            step_g.backward(loss_g)
        return self.step_output(len(real), loss_d=loss_d, loss_g=loss_g)

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        """Images from latents, through the averaged generator."""
        return self.averaged("generator")(latents)
