"""Wasserstein GAN with weight clipping: Arjovsky, Chintala, Bottou, ICML 2017, https://arxiv.org/abs/1701.07875

Original code (PyTorch): https://github.com/martinarjovsky/WassersteinGAN
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.layers import normal_weights, refined_generator, strided_discriminator, strided_generator
from lightning_gen.losses import clip_weights, wasserstein_d, wasserstein_g
from lightning_gen.module import GenerativeModule, StepOutput

QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "width": 32,
    "refined": True,
    "lr": 5e-4,
    "critic_steps": 2,
    "ema_halflife_kimg": 5.0,
}


class WGAN(GenerativeModule):
    """The critic estimates the earth mover's distance; its weights are clipped into a box to bound its slope.

    The networks are DCGAN's (4x4 kernels), as in the published code. Differences from the paper: weights are clipped
    once before the first step too, as in the published code, so that every step has a critic of bounded slope, and the
    critic makes no 100 steps in each of the first 25 and every 500th generator step, as that code does. The preset
    `quick` has a generator whose last layer works at the image's own size, without which it draws specks.

    Args:
        image_shape: (channels, height, width); square, 32, 64 or 128 pixels.
        latent_dim: Length of the latent vector.
        width: Feature maps of the layers nearest the image; they double towards the 4x4 end.
        clip: Largest size of a critic weight (c of algorithm 1).
        critic_norm: Whether the critic has batch norm, as in the published code's default.
        refined: Whether the generator has one more layer, half as wide, at the image's own size and a second one at
            each of its first two sizes, with at most 2 `width` maps; in the published code each size has one strided
            layer.
        lr: Learning rate of RMSProp, for both networks.
        critic_steps: Critic updates for each generator update.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    undecided = None
    paper = "Arjovsky et al. 2017, Wasserstein GAN, https://arxiv.org/abs/1701.07875"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 64, 64)},
        "quick": QUICK,
        "photographs": QUICK | {"latent_dim": 64},
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 75000, "data.batch_size": 64},
        "quick": {"kimg": 300, "data.batch_size": 32, "update.lr_decay": 0.5},
        "photographs": {"kimg": 400, "data.batch_size": 32, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 64, 64),
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 64,
        clip: PositiveFloat = 0.01,
        critic_norm: bool = True,
        refined: bool = False,
        lr: PositiveFloat = 5e-5,
        critic_steps: PositiveInt = 5,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in (32, 64, 128):
            raise UserError(f"wgan makes square images of 32, 64 or 128 pixels, not {height} x {resolution}")
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        doublings = int(math.log2(resolution)) - 2
        self.generator = (refined_generator if refined else strided_generator)(latent_dim, width, doublings, channels)
        self.discriminator = strided_discriminator(width, doublings, channels, critic_norm)
        self.apply(normal_weights)
        clip_weights(self.discriminator, clip)
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        networks = (self.discriminator, self.generator)
        return [torch.optim.RMSprop(network.parameters(), self.hparams.lr) for network in networks]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        for images in batch["image"].chunk(self.critic_steps):
            with self.update(opt_d) as step_d:
                for real in step_d.parts(images):
                    fake = self.augmented(self.generator(self.randn(len(real), self.latent_dim, 1, 1)))
                    real = self.augmented(real)
                    values_real, values_fake = self.discriminator(real), self.discriminator(fake)
                    loss_d = wasserstein_d(values_real, values_fake)
                    step_d.backward(loss_d)
            clip_weights(self.discriminator, self.hparams.clip)
        with self.update(opt_g) as step_g:
            for real in step_g.parts(images):
                fake = self.generator(self.randn(len(real), self.latent_dim, 1, 1))
                loss_g = wasserstein_g(self.discriminator(self.augmented(fake)))
                step_g.backward(loss_g)
        return self.step_output(
            len(batch["image"]),
            loss_d=loss_d,
            loss_g=loss_g,
            logits_real=values_real,
            logits_fake=values_fake,
            grad_norm_d=step_d.grad_norm,
            grad_norm_g=step_g.grad_norm,
        )

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return self.averaged("generator")(latents[:, :, None, None])
