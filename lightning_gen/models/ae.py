"""Autoencoders: Hinton, Salakhutdinov, Science 313, 2006, https://www.cs.toronto.edu/~hinton/absps/science.pdf

Denoising: Vincent, Larochelle, Bengio, Manzagol, ICML 2008,
https://www.cs.toronto.edu/~larocheh/publications/icml-2008-denoising-autoencoders.pdf. Its change is what the encoder
is shown and nothing else, so it is this model with another input.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from lightning_gen import ema, noise
from lightning_gen.errors import UserError
from lightning_gen.layers import decoder, encoder
from lightning_gen.module import Decay, GenerativeModule, StepOutput

MEMORY_KIMG = 5.0
"""Half-life of the moments of the codes, in thousands of images: long against a batch, short against training."""


class AE(GenerativeModule):
    """Autoencoder: squared error through a bottleneck; samples are decoded from a Gaussian fitted to the codes.

    An autoencoder models no distribution of images, so what `sample` draws is stated here: latents from the normal
    distribution with the mean and covariance that the codes of the training data had lately. These are in the
    checkpoint. Where the codes are not Gaussian, and nothing makes them so, samples lie between images.

    Differences from the paper: ReLU in the place of logistic units, Adam from random weights in the place of
    pretraining by Boltzmann machines, squared error; the preset `quick` has convolutions.

    Args:
        image_shape: (channels, height, width); sides divisible by 2 for each of `widths`.
        latent_dim: Length of the code.
        widths: Feature maps of the encoder's convolutions, each of which halves the sides; the decoder mirrors them.
        hidden: Units of its dense layers.
        lr: Learning rate.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged decoder in thousands of images; 0 keeps no average.
    """

    paper = "Hinton & Salakhutdinov 2006, Reducing the Dimensionality of Data with Neural Networks, https://www.cs.toronto.edu/~hinton/absps/science.pdf"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (1, 28, 28)},
        "quick": {"image_shape": (3, 32, 32), "latent_dim": 32, "widths": (32, 64, 128), "hidden": (256,)},
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 12000, "data.batch_size": 100},
        "quick": {"kimg": 400, "data.batch_size": 64, "update.lr_decay": 0.5},
    }

    code_mean: Tensor
    """(latent_dim,)"""
    code_square: Tensor
    """Mean of code code^T, (latent_dim, latent_dim)."""

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        latent_dim: PositiveInt = 30,
        widths: tuple[int, ...] = (),
        hidden: tuple[int, ...] = (1000, 500, 250),
        lr: PositiveFloat = 1e-3,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.automatic_optimization = True
        self.image_shape = tuple(image_shape)
        if any(side % 2 ** len(widths) for side in self.image_shape[1:]):
            raise UserError(f"{len(widths)} halvings (--model.widths) do not divide images of {image_shape[1:]} pixels")
        self.latent_dim = latent_dim
        self.encoder = encoder(self.image_shape, widths, hidden, latent_dim)
        self.decoder = decoder(self.image_shape, widths, hidden, latent_dim)
        self.register_buffer("code_mean", torch.zeros(latent_dim))
        self.register_buffer("code_square", torch.eye(latent_dim))
        self.average("decoder", ema_halflife_kimg)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        networks = [*self.encoder.parameters(), *self.decoder.parameters()]
        return torch.optim.Adam(networks, self.hparams.lr, self.hparams.betas)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        x = batch["image"]
        codes = self.encoder(self.shown(x))
        loss = F.mse_loss(self.decoder(codes).float(), x.float())
        self.remember(codes.detach().float())
        return self.step_output(len(x), loss=loss)

    def shown(self, images: Tensor) -> Tensor:
        """What the encoder sees of images that it is trained on: the images."""
        return images

    def remember(self, codes: Tensor) -> None:
        """The first two moments of the codes (B, latent_dim) follow, with the images as their clock."""
        n = len(codes) * self._world_size()
        forget = 1 - ema.decay(n, self.clock.images + n, MEMORY_KIMG)
        squares = (codes[:, :, None] * codes[:, None]).mean(0)
        self.code_mean.lerp_(self.mean_over_ranks(codes.mean(0)), forget)
        self.code_square.lerp_(self.mean_over_ranks(squares), forget)

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        """From N(mean, covariance) of the codes."""
        mean, square = self.code_mean.cpu().double(), self.code_square.cpu().double()
        values, vectors = torch.linalg.eigh(square - mean.outer(mean))
        root = (vectors * values.clamp_min(0).sqrt()).float()
        standard = noise.normal(n, self.latent_dim, seed=seed, start=start)
        # summed row by row: a matrix product rounds a row by how many there are
        return mean.float() + (standard[:, None] * root).sum(2)

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return self.averaged("decoder")(latents).clamp(-1, 1)


class DenoisingAE(AE):
    """Autoencoder that is shown a corrupted image and asked for the clean one.

    Settings and samples as `ae`, besides the corruption. Encoding a noisy image and decoding the code cleans it, as
    `lgen translate` does: pictures larger than `image_shape` go in tiles of that size.

    Args:
        image_shape: (channels, height, width); sides divisible by 2 for each of `widths`.
        latent_dim: Length of the code.
        widths: Feature maps of the encoder's convolutions, each of which halves the sides; the decoder mirrors them.
        hidden: Units of its dense layers.
        masked: Share of pixels that are blackened (section 2.3).
        noise: Deviation of Gaussian noise on each value, in units of [-1, 1] (Vincent et al. 2010).
        lr: Learning rate.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged decoder in thousands of images; 0 keeps no average.
    """

    paper = "Vincent et al. 2008, Extracting and Composing Robust Features with Denoising Autoencoders, https://www.cs.toronto.edu/~larocheh/publications/icml-2008-denoising-autoencoders.pdf"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (1, 28, 28)},
        "quick": {**AE.presets["quick"], "masked": 0.0, "noise": 0.4},
    }
    recipes = AE.recipes
    restores = True

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        latent_dim: PositiveInt = 30,
        widths: tuple[int, ...] = (),
        hidden: tuple[int, ...] = (1000, 500, 250),
        masked: ClosedUnitInterval = 0.25,
        noise: NonNegativeFloat = 0.0,
        lr: PositiveFloat = 1e-3,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__(image_shape, latent_dim, widths, hidden, lr, betas, ema_halflife_kimg)

    def shown(self, images: Tensor) -> Tensor:
        """The corrupted image: x-tilde of section 2.3."""
        keep = self.rand(len(images), 1, *images.shape[2:]) >= self.hparams.masked
        noisy = images + self.hparams.noise * self.randn(*images.shape)
        return torch.where(keep, noisy, -1.0)
