"""3D-VAE-GAN: a solid from one picture of it. Wu et al. 2016, section 3.3, https://arxiv.org/abs/1610.07584"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lgen_voxel.gan import Share, discriminator, generator, initial, of_volume, taught
from lightning_gen import images, likelihood, volumes
from lightning_gen.errors import UserError
from lightning_gen.losses import non_saturating_g
from lightning_gen.module import Decay, GenerativeModule, StepOutput


def encoder(latent_dim: int, side: int, width: int) -> nn.Sequential:
    """Pictures (B, 3, side, side) to mean and log-variance (B, 2 latent_dim): convolutions of stride 2 down to 4 pixels
    a side and one over what is left, batch norm and ReLU in between."""
    layers: list[nn.Module] = []
    narrow = 3
    for depth in range(int(math.log2(side)) - 2):
        wide = width << depth
        layers += [nn.Conv2d(narrow, wide, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(wide), nn.ReLU(True)]
        narrow = wide
    return nn.Sequential(*layers, nn.Conv2d(narrow, 2 * latent_dim, 4), nn.Flatten())


class VoxelVAEGAN(GenerativeModule):
    """3D-VAE-GAN: the 3-D GAN with an encoder that finds the latent of a solid in a picture of it.

    Pictures are renders of the training solids, made on the way; `encode` makes one of each solid that it is given, and
    `lgen-voxel build` takes yours.

    Differences from the paper: renders on white from one side, in the place of renders composed onto photographs from
    several; the encoder halves down to 4 pixels whatever the size of the pictures (the paper's is for 256); the squared
    distance of a solid and its reconstruction is a mean over voxels, and `weight_reconstruction` counts it as such.

    Args:
        image_shape: The sides of the volumes: equal, a power of two from 8 on.
        latent_dim: Length of the latent vector.
        width: Feature maps of generator and discriminator nearest the volume.
        picture: Side of the pictures; a power of two from 8 on.
        encoder_width: Feature maps of the encoder's first layer; they double with every halving.
        weight_kl: Weight of the KL of q(z | picture) to the normal distribution.
        weight_reconstruction: Weight of the mean squared distance of a solid and what its picture becomes.
        accuracy_limit: Above this accuracy in the last batch the discriminator is not updated.
        lr: Learning rate of generator and encoder.
        lr_discriminator: Learning rate of the discriminator.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of volumes; 0 keeps no average.
    """

    paper = (
        "Wu et al. 2016, Learning a Probabilistic Latent Space of Object Shapes via 3D Generative-Adversarial "
        "Modeling, https://arxiv.org/abs/1610.07584"
    )
    usual_data = "voxels"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (64, 64, 64)},
        "quick": {
            "image_shape": (32, 32, 32),
            "latent_dim": 64,
            "width": 16,
            "picture": 32,
            "encoder_width": 24,
            "weight_kl": 0.02,
            "weight_reconstruction": 200.0,
            "lr": 1e-3,
            "lr_discriminator": 1e-3,
            "ema_halflife_kimg": 1.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 700, "data.batch_size": 100, "data.resolution": 64, "metrics.names": ["solids"]},
        "quick": {
            "kimg": 24,
            "data.batch_size": 32,
            "update.lr_decay": 0.5,
            "metrics.names": ["solids"],
            "metrics.samples": 200,
        },
    }
    any_layout = True
    checked: ClassVar[dict[str, Any]] = {"image_shape": (8, 8, 8), "width": 4, "picture": 8, "encoder_width": 4}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (64, 64, 64),
        latent_dim: PositiveInt = 200,
        width: PositiveInt = 64,
        picture: PositiveInt = 256,
        encoder_width: PositiveInt = 64,
        weight_kl: NonNegativeFloat = 5.0,
        weight_reconstruction: NonNegativeFloat = 26.0,
        accuracy_limit: Share = 0.8,
        lr: PositiveFloat = 2.5e-3,
        lr_discriminator: PositiveFloat = 1e-5,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.image_shape = tuple(image_shape)
        side = of_volume(self.image_shape, "voxel-vae-gan")
        if picture < 8 or picture & (picture - 1):
            raise UserError(f"--model.picture {picture}: 8, 16, 32, 64 ... pixels a side")
        self.latent_dim = latent_dim
        self.encoder = encoder(latent_dim, picture, encoder_width)
        self.generator = generator(latent_dim, side, width)
        self.discriminator = discriminator(side, width)
        self.apply(initial)
        self.register_buffer("accuracy", torch.zeros(()))
        self.average("generator", ema_halflife_kimg)
        self.average("encoder", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        settings = self.hparams
        ours = [*self.generator.parameters(), *self.encoder.parameters()]
        return [
            torch.optim.Adam(self.discriminator.parameters(), settings.lr_discriminator, settings.betas),
            torch.optim.Adam(ours, settings.lr, settings.betas),
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        real = batch["image"][:, None]
        pictures = self.pictures(batch["image"])
        opt_d, opt_g = self.optimizers()
        fake = self.generator(self.randn(len(real), self.latent_dim))
        loss_d, logits_real, logits_fake = taught(self, opt_d, real, fake.detach())
        with self.update(opt_g) as step_g:
            mean, log_variance = self.encoder(pictures).float().chunk(2, dim=1)
            rebuilt = self.generator(mean + (log_variance / 2).exp() * self.randn(*mean.shape))
            # occupancy runs from 0 to 1 in the paper, from -1 to 1 here
            reconstruction = ((rebuilt.float() - real.float()) / 2).square().mean()
            kl = likelihood.kl_to_standard_normal(mean, log_variance).mean()
            loss_g = non_saturating_g(self.discriminator(fake))
            step_g.backward(  # section 3.3
                loss_g + self.hparams.weight_kl * kl + self.hparams.weight_reconstruction * reconstruction
            )
        return self.step_output(
            len(real),
            loss_d=loss_d,
            loss_g=loss_g,
            reconstruction=reconstruction,
            kl=kl,
            logits_real=logits_real,
            logits_fake=logits_fake,
            grad_norm_g=step_g.grad_norm,
        )

    def pictures(self, solids: Tensor) -> Tensor:
        """Renders (B, 3, P, P) in [-1, 1] of solids (B, X, Y, Z) in [-1, 1]."""
        seen = volumes.render(images.to_uint8(solids), self.hparams.picture)
        return images.from_uint8(seen, solids.dtype)

    def encode(self, images: Tensor) -> Tensor:
        """The latents of solids (B, X, Y, Z), found in pictures of them."""
        return self.of_pictures(self.pictures(images))

    def of_pictures(self, pictures: Tensor) -> Tensor:
        """The latents of what pictures (B, 3, P, P) in [-1, 1] show: the posterior's means."""
        return self.averaged("encoder")(pictures).float().chunk(2, dim=1)[0]

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        """Occupancy (n, X, Y, Z) in [-1, 1]; solid above 0."""
        return self.averaged("generator")(latents)[:, 0].float()
