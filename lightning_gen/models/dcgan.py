"""Deep convolutional GAN: Radford, Metz, Chintala, ICLR 2016, https://arxiv.org/abs/1511.06434

Original code (Lua Torch): https://github.com/soumith/dcgan.torch
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.layers import first_weights, refined_generator, strided_discriminator, strided_generator
from lightning_gen.losses import minimax_d, non_saturating_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput


class DCGAN(GenerativeModule):
    """Deep convolutional GAN: strided convolutions and batch norm in both networks.

    Differences from the paper: latents are normal, not uniform, and kernels 4x4, not 5x5, both as in the published
    code, and real and fake images form separate batches for the discriminator's batch norm (section 3 leaves it open;
    the code does so). The preset `quick` adds what the paper does not have: R1, since on pictures as clean as `shapes`
    the discriminator otherwise wins within minutes, no batch norm there, which hides the contrast of a batch from it,
    and a generator whose last layer works at the image's own size, which gets edges straight much sooner.

    Args:
        image_shape: (channels, height, width); square, 32, 64 or 128 pixels.
        latent_dim: Length of the latent vector.
        width: Feature maps of the layers nearest the image; they double towards the 4x4 end.
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        refined: Whether the generator has one more layer, half as wide, at the image's own size and a second one at
            each of its first two sizes, with at most 2 `width` maps; in the paper each size has one strided layer.
        discriminator_norm: Whether the discriminator has batch norm. Without it, it has He's initial weights, as the
            paper's are too small.
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0, as in the paper, is none.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Radford et al. 2016, Unsupervised Representation Learning with Deep Convolutional GANs, https://arxiv.org/abs/1511.06434"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 64, 64), "width": 128},
        "quick": {
            "image_shape": (3, 32, 32),
            "latent_dim": 16,
            "width": 32,
            "lr": 2e-3,
            "betas": (0.0, 0.99),
            "refined": True,
            "discriminator_norm": False,
            "penalty": 1.0,
            "ema_halflife_kimg": 5.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 15000, "data.batch_size": 128},
        "quick": {"kimg": 240, "data.batch_size": 16, "update.lr_decay": 0.4},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 64, 64),
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 64,
        lr: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        critic_steps: PositiveInt = 1,
        refined: bool = False,
        discriminator_norm: bool = True,
        penalty: NonNegativeFloat = 0.0,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in (32, 64, 128):
            raise UserError(f"dcgan makes square images of 32, 64 or 128 pixels, not {height} x {resolution}")
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        doublings = int(math.log2(resolution)) - 2
        self.generator = (refined_generator if refined else strided_generator)(latent_dim, width, doublings, channels)
        self.discriminator = strided_discriminator(width, doublings, channels, discriminator_norm)
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
                    fake = self.generator(self.randn(len(real), self.latent_dim, 1, 1))
                    real.requires_grad_(self.hparams.penalty > 0)
                    logits_real = self.discriminator(self.augmented(real))
                    logits_fake = self.discriminator(self.augmented(fake))
                    loss_d = minimax_d(logits_real, logits_fake)
                    if self.hparams.penalty > 0:
                        loss_d = loss_d + self.hparams.penalty * zero_centred_penalty(logits_real, real)
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real in step_g.parts(images):
                fake = self.generator(self.randn(len(real), self.latent_dim, 1, 1))
                loss_g = non_saturating_g(self.discriminator(self.augmented(fake)))
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
        return self.averaged("generator")(latents[:, :, None, None])
