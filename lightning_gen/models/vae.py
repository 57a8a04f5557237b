"""Variational autoencoders: Kingma, Welling, ICLR 2014, https://arxiv.org/abs/1312.6114

beta-VAE: Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed, Lerchner, ICLR 2017,
https://openreview.net/forum?id=Sy2fzU9gl. Its change is one factor before one term, so it is this model with another
default; that is why it stands in this file and is the one kind of inheritance between models.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from lightning_gen import likelihood as densities
from lightning_gen.errors import UserError
from lightning_gen.layers import decoder, encoder
from lightning_gen.module import Decay, GenerativeModule, StepOutput


class VAE(GenerativeModule):
    """Variational autoencoder: Gaussian posterior, loss = reconstruction + c x KL, a bound of the likelihood.

    With the Bernoulli likelihood an image is a set of coins: each pixel becomes 0 or 1 with its brightness as
    probability, anew every time it is seen (dynamic binarisation, Salakhutdinov & Murray 2008), and the likelihood is
    that of the coins. With the Gaussian one it is that of the 8-bit levels, by uniform dequantisation. Samples are the
    means of p(x | z), as papers show them, not draws from it.

    Differences from the paper: ReLU in the place of tanh, Adam in the place of Adagrad; the preset `quick` has
    convolutions.

    Args:
        image_shape: (channels, height, width); sides divisible by 2 for each of `widths`.
        latent_dim: Length of the latent vector.
        widths: Feature maps of the encoder's convolutions, each of which halves the sides; the decoder mirrors them.
        hidden: Units of its dense layers.
        likelihood: What p(x | z) is: ``bernoulli`` (binary images) or ``gaussian``.
        sigma: Deviation of the Gaussian likelihood, in units of [-1, 1].
        kl_weight: c in loss = reconstruction + c x KL; 1 is the bound (ELBO).
        kl_warmup_kimg: Thousands of images over which c rises from 0 (Bowman et al. 2016); 0 starts with all of it.
        lr: Learning rate.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged decoder in thousands of images; 0 keeps no average.
    """

    paper = "Kingma & Welling 2014, Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (1, 28, 28), "latent_dim": 20},
        "quick": {
            "image_shape": (3, 32, 32),
            "latent_dim": 32,
            "widths": (32, 64, 128),
            "hidden": (256,),
            "likelihood": "gaussian",
            "sigma": 0.25,
            "kl_warmup_kimg": 5.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 10000, "data.batch_size": 100},
        "quick": {"kimg": 400, "data.batch_size": 64, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        latent_dim: PositiveInt = 20,
        widths: tuple[int, ...] = (),
        hidden: tuple[int, ...] = (500,),
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        sigma: PositiveFloat = 0.1,
        kl_weight: NonNegativeFloat = 1.0,
        kl_warmup_kimg: NonNegativeFloat = 0.0,
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
        self.levels = 2 if likelihood == "bernoulli" else 256
        self.encoder = encoder(self.image_shape, widths, hidden, 2 * latent_dim)
        self.decoder = decoder(self.image_shape, widths, hidden, latent_dim)
        self.average("decoder", ema_halflife_kimg)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        networks = [*self.encoder.parameters(), *self.decoder.parameters()]
        return torch.optim.Adam(networks, self.hparams.lr, self.hparams.betas)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        x = self.observed(batch["image"])
        mean, log_variance = self.posterior(x)
        z = mean + (log_variance / 2).exp() * self.randn(len(x), self.latent_dim)  # section 2.4
        reconstruction = -self.log_likelihood(x, self.decoder(z)).mean()
        kl = densities.kl_to_standard_normal(mean, log_variance).mean()
        loss = reconstruction + self.c * kl  # equation 10, both terms negated
        return self.step_output(len(x), loss=loss, reconstruction=reconstruction, kl=kl)

    @property
    def c(self) -> float:
        """The weight of the KL now."""
        warm = 1000 * self.hparams.kl_warmup_kimg
        return self.hparams.kl_weight * (min(1.0, self.clock.images / warm) if warm else 1.0)

    def observed(self, images: Tensor) -> Tensor:
        """What is modelled of images (B, C, H, W) in [-1, 1]: coins as -1 or 1, or levels spread over their width."""
        noise = self.rand(*images.shape)
        if self.hparams.likelihood == "bernoulli":
            return (2 * noise < images + 1).to(images.dtype) * 2 - 1
        return images + densities.LEVEL * (noise - 0.5)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), (B, latent_dim) each."""
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        return mean, log_variance

    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        """log p(x | z) of what was observed, (B,): of coins, or the density of levels."""
        if self.hparams.likelihood == "bernoulli":
            return densities.bernoulli(decoded, (x + 1) / 2)
        return densities.gaussian(decoded, self.hparams.sigma, x)

    def likelihood(self, batch: dict[str, Any], samples: int) -> dict[str, Tensor]:
        """`nll` by importance sampling with `samples` draws from q (Burda et al. 2016), and the `elbo` of one draw."""
        x = self.observed(batch["image"])
        mean, log_variance = self.posterior(x)
        log_weights, decode = [], self.averaged("decoder")
        for _ in range(samples):
            z = mean + (log_variance / 2).exp() * self.randn(*mean.shape)
            log_prior = -(z.square() + math.log(2 * math.pi)).sum(1) / 2
            log_q = densities.posterior(z, mean, log_variance)
            log_weights.append(self.log_likelihood(x, decode(z)) + log_prior - log_q)
        weights = torch.stack(log_weights)
        if self.hparams.likelihood == "gaussian":
            weights = densities.of_levels(weights, x[0].numel())
        kl = densities.kl_to_standard_normal(mean, log_variance)
        return {"nll": -densities.importance_weighted(weights), "elbo": weights.mean(0), "kl": kl}

    def encode(self, images: Tensor) -> Tensor:
        """The posterior's mean."""
        return self.posterior(images)[0]

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        decoded = self.averaged("decoder")(latents)
        return 2 * decoded.sigmoid() - 1 if self.hparams.likelihood == "bernoulli" else decoded.clamp(-1, 1)


class BetaVAE(VAE):
    """VAE whose KL counts beta > 1 times: single latents then tend to follow single factors of the data.

    Settings as `vae`, with `kl_weight` for beta. The paper leaves the Gaussian likelihood's deviation open; 1 here.

    Args:
        image_shape: (channels, height, width); sides divisible by 2 for each of `widths`.
        latent_dim: Length of the latent vector.
        widths: Feature maps of the encoder's convolutions, each of which halves the sides; the decoder mirrors them.
        hidden: Units of its dense layers.
        likelihood: What p(x | z) is: ``bernoulli`` (binary images) or ``gaussian``.
        sigma: Deviation of the Gaussian likelihood, in units of [-1, 1].
        kl_weight: beta.
        kl_warmup_kimg: Thousands of images over which beta rises from 0; 0 starts with all of it.
        lr: Learning rate.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged decoder in thousands of images; 0 keeps no average.
    """

    paper = "Higgins et al. 2017, beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework, https://openreview.net/forum?id=Sy2fzU9gl"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {  # CelebA: layers and rate as public implementations give them of the paper's appendix
            "image_shape": (3, 64, 64),
            "latent_dim": 32,
            "widths": (32, 32, 64, 64),
            "hidden": (256,),
            "likelihood": "gaussian",
            "sigma": 1.0,
            "kl_weight": 250.0,
            "lr": 1e-4,
        },
        "quick": {
            "image_shape": (3, 32, 32),
            "latent_dim": 10,
            "widths": (32, 64, 128),
            "hidden": (256,),
            "likelihood": "gaussian",
            "sigma": 0.25,
            "kl_warmup_kimg": 5.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 64000, "data.batch_size": 64},
        "quick": {"kimg": 400, "data.batch_size": 64, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 64, 64),
        latent_dim: PositiveInt = 10,
        widths: tuple[int, ...] = (32, 32, 64, 64),
        hidden: tuple[int, ...] = (256,),
        likelihood: Literal["bernoulli", "gaussian"] = "gaussian",
        sigma: PositiveFloat = 0.1,
        kl_weight: NonNegativeFloat = 4.0,
        kl_warmup_kimg: NonNegativeFloat = 0.0,
        lr: PositiveFloat = 1e-3,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__(
            image_shape, latent_dim, widths, hidden, likelihood, sigma, kl_weight, kl_warmup_kimg, lr, betas,
            ema_halflife_kimg,
        )  # fmt: skip
