"""3-D GAN: Wu, Zhang, Xue, Freeman, Tenenbaum, NIPS 2016, https://arxiv.org/abs/1610.07584

Published code (Torch, no training): https://github.com/zck119/3dgan-release
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt, restricted_number_type
from torch import Tensor, nn

from lightning_gen import noise
from lightning_gen.errors import UserError
from lightning_gen.losses import minimax_d, non_saturating_g
from lightning_gen.module import Decay, GenerativeModule, StepOutput

Share = restricted_number_type("Share", float, [(">", 0), ("<=", 1)])
"""A share that is not nothing."""


def generator(latent_dim: int, side: int, width: int) -> nn.Sequential:
    """Latents (B, latent_dim) to occupancy (B, 1, side, side, side) in [-1, 1]: figure 1.

    Fully convolutional, kernels of 4; `width` maps come before the last layer and twice as many before each earlier
    one. The sigmoid of the paper is written as the tanh that it is in [-1, 1].
    """
    wide = width << (_halvings(side) - 1)
    layers: list[nn.Module] = [
        nn.Unflatten(1, (latent_dim, 1, 1, 1)),
        nn.ConvTranspose3d(latent_dim, wide, 4, bias=False),
        nn.BatchNorm3d(wide),
        nn.ReLU(inplace=True),
    ]
    while wide > width:
        layers += [
            nn.ConvTranspose3d(wide, wide // 2, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm3d(wide // 2),
            nn.ReLU(inplace=True),
        ]
        wide //= 2
    return nn.Sequential(*layers, nn.ConvTranspose3d(width, 1, 4, stride=2, padding=1), nn.Tanh())


def discriminator(side: int, width: int) -> nn.Sequential:
    """The mirror image: (B, 1, side, side, side) to logits (B,); leaky ReLU of slope 0.2, no norm next to it."""
    layers: list[nn.Module] = [nn.Conv3d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    for _ in range(_halvings(side) - 1):
        layers += [
            nn.Conv3d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm3d(2 * width),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width *= 2
    return nn.Sequential(*layers, nn.Conv3d(width, 1, 4), nn.Flatten(0))


def _halvings(side: int) -> int:
    return int(math.log2(side)) - 2


def initial(layer: nn.Module) -> None:
    """Weights from N(0, 0.02), biases 0; batch-norm scales around 1, as GANs of that time. For `network.apply`."""
    if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm3d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


def of_volume(image_shape: tuple[int, int, int], model: str) -> int:
    """The side of the volumes.

    Raises:
        UserError: they are no cubes of a power of two from 8 on.
    """
    side = image_shape[0]
    if len(set(image_shape)) != 1 or side < 8 or side & (side - 1):
        raise UserError(
            f"{model} makes cubes of 8, 16, 32, 64 ... voxels a side, not {' x '.join(map(str, image_shape))}: "
            "`--data voxels` has such"
        )
    return side


def taught(model: Any, opt_d: Any, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Update the discriminator of `model` on volumes (B, 1, X, Y, Z), unless its accuracy in the last batch was above
    the limit: its loss, and the logits of real and fake ones."""
    if bool(model.accuracy > model.hparams.accuracy_limit):
        with torch.no_grad():
            logits_real, logits_fake = model.discriminator(real), model.discriminator(fake)
            loss_d = minimax_d(logits_real, logits_fake)
    else:
        with model.update(opt_d) as step_d:
            logits_real, logits_fake = model.discriminator(real), model.discriminator(fake)
            loss_d = minimax_d(logits_real, logits_fake)  # equation 1
            step_d.backward(loss_d)
    told_apart = ((logits_real > 0).float().mean() + (logits_fake < 0).float().mean()) / 2
    model.accuracy.copy_(model.mean_over_ranks(told_apart))
    return loss_d, logits_real, logits_fake


class VoxelGAN(GenerativeModule):
    """3-D GAN: volumetric convolutions from a latent to a solid, and a discriminator that waits for the generator.

    The discriminator is updated only where its accuracy in the last batch was not above `accuracy_limit`: in three
    dimensions it learns faster than the generator (section 3.2).

    Differences from the paper: latents are uniform in [-1, 1], not in [0, 1]; batches of a real and of a fake half are
    normalised apart.

    Args:
        image_shape: The sides of the volumes: equal, a power of two from 8 on.
        latent_dim: Length of the latent vector.
        width: Feature maps of both networks' layers nearest the volume.
        accuracy_limit: Above this accuracy in the last batch the discriminator is not updated.
        lr: Learning rate of the generator.
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
            "lr": 1e-3,
            "lr_discriminator": 1e-3,
            "ema_halflife_kimg": 1.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 700, "data.batch_size": 100, "data.resolution": 64, "metrics.names": ["solids"]},
        "quick": {
            "kimg": 32,
            "data.batch_size": 32,
            "update.lr_decay": 0.5,
            "metrics.names": ["solids"],
            "metrics.samples": 200,
        },
    }
    any_layout = True
    checked: ClassVar[dict[str, Any]] = {"image_shape": (8, 8, 8), "width": 4}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (64, 64, 64),
        latent_dim: PositiveInt = 200,
        width: PositiveInt = 64,
        accuracy_limit: Share = 0.8,
        lr: PositiveFloat = 2.5e-3,
        lr_discriminator: PositiveFloat = 1e-5,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.image_shape = tuple(image_shape)
        side = of_volume(self.image_shape, "voxel-gan")
        self.latent_dim = latent_dim
        self.generator = generator(latent_dim, side, width)
        self.discriminator = discriminator(side, width)
        self.apply(initial)
        self.register_buffer("accuracy", torch.zeros(()))
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        settings = self.hparams
        return [
            torch.optim.Adam(self.discriminator.parameters(), settings.lr_discriminator, settings.betas),
            torch.optim.Adam(self.generator.parameters(), settings.lr, settings.betas),
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        real = batch["image"][:, None]
        opt_d, opt_g = self.optimizers()
        fake = self.generator(2 * self.rand(len(real), self.latent_dim) - 1)  # once for both updates
        loss_d, logits_real, logits_fake = taught(self, opt_d, real, fake.detach())
        with self.update(opt_g) as step_g:
            loss_g = non_saturating_g(self.discriminator(fake))
            step_g.backward(loss_g)
        return self.step_output(
            len(real),
            loss_d=loss_d,
            loss_g=loss_g,
            logits_real=logits_real,
            logits_fake=logits_fake,
            grad_norm_g=step_g.grad_norm,
        )

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        """Uniform in [-1, 1], (n, latent_dim)."""
        return 2 * noise.uniform(n, self.latent_dim, seed=seed, start=start) - 1

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        """Occupancy (n, X, Y, Z) in [-1, 1]; solid above 0."""
        return self.averaged("generator")(latents)[:, 0].float()
