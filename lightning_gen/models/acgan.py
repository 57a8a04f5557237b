"""Auxiliary classifier GAN: Odena, Olah, Shlens, ICML 2017, https://arxiv.org/abs/1610.09585"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError, without_labels
from lightning_gen.layers import first_weights, normed
from lightning_gen.losses import minimax_d, non_saturating_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput


class Generator(nn.Module):
    """Table 2, above: latents (B, latent_dim), labels (B,) -> images (B, C, 8 side, 8 side) in [-1, 1].

    The label is one-hot beside the latents. Transposed 5x5 convolutions double the size three times; `refined`, they
    are resize-convolutions (Odena, Dumoulin, Olah 2016, https://distill.pub/2016/deconv-checkerboard/).
    """

    def __init__(self, latent_dim: int, num_classes: int, width: int, side: int, channels: int, refined: bool):
        super().__init__()
        self.num_classes = num_classes
        layers: list[nn.Module] = [
            nn.Linear(latent_dim + num_classes, 4 * width * side**2),
            nn.Unflatten(1, (4 * width, side, side)),
            nn.ReLU(inplace=True),
        ]
        widths = [4 * width, 2 * width, width]
        if refined:
            for wide, narrow in itertools.pairwise([*widths, max(1, width // 2)]):
                layers += normed(nn.Conv2d(wide, wide, 3, padding=1))
                layers += [nn.Upsample(scale_factor=2), *normed(nn.Conv2d(wide, narrow, 3, padding=1))]
            last: nn.Module = nn.Conv2d(max(1, width // 2), channels, 3, padding=1)
        else:
            for wide, narrow in itertools.pairwise(widths):
                layers += normed(nn.ConvTranspose2d(wide, narrow, 5, stride=2, padding=2, output_padding=1))
            last = nn.ConvTranspose2d(width, channels, 5, stride=2, padding=2, output_padding=1)
        self.layers = nn.Sequential(*layers, last, nn.Tanh())

    def forward(self, latents: Tensor, label: Tensor) -> Tensor:
        return self.layers(torch.cat([latents, F.one_hot(label, self.num_classes).to(latents.dtype)], dim=1))


class ActivationNoise(nn.Module):
    """Adds normal noise of this deviation in training."""

    def __init__(self, deviation: float):
        super().__init__()
        self.deviation = deviation

    def forward(self, x: Tensor) -> Tensor:
        return x + self.deviation * torch.randn_like(x) if self.training and self.deviation > 0 else x


class Discriminator(nn.Module):
    """Table 2, below: images (B, C, 8 side, 8 side) -> logits of being real (B,) and of the classes (B, num_classes).

    Six 3x3 convolutions, the first, third and fifth of which halve the size, each with dropout.
    """

    def __init__(
        self, num_classes: int, width: int, side: int, channels: int, dropout: float, noise: float, batch_norm: bool
    ):
        super().__init__()
        widths = [channels, *(width << depth for depth in range(6))]
        layers: list[nn.Module] = []
        for depth, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            layers += [
                ActivationNoise(noise),
                nn.Conv2d(narrow, wide, 3, stride=1 if depth % 2 else 2, padding=1),
                *([nn.BatchNorm2d(wide)] if batch_norm and depth > 0 else []),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Dropout(dropout),
            ]
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.source = nn.Linear(widths[-1] * side**2, 1)
        self.classes = nn.Linear(widths[-1] * side**2, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return self.source(features).squeeze(1), self.classes(features)


class ACGAN(GenerativeModule):
    """Class-conditional: the discriminator also says which class it sees, and both networks want it to be right.

    The networks are those of the paper's CIFAR-10 table. Differences from the paper: the table's first layer, 384 wide,
    is read as 384 maps of 4x4 pixels, since three doublings do not lead from 1x1 to 32x32; of the settings that the
    paper searched, the activation noise is 0.1 and the learning rate 2e-4; the generator minimises the non-saturating
    loss in the place of L_S with its sign turned; fake images take the labels of the real batch, so that both have the
    data's frequencies. The preset `quick` leaves batch norm, dropout and noise out of the discriminator, has a
    `refined` generator and classes of real images alone, and adds what the paper does not have, R1.

    Args:
        image_shape: (channels, height, width); square, a multiple of 8 from 24 to 128 pixels.
        num_classes: Number of labels; the data says it.
        latent_dim: Length of the latent vector.
        width: Feature maps of the generator's layer at half the image's size; they double towards the first one.
        refined: Whether the generator enlarges by repeating pixels, has one more layer, half as wide, at the image's
            own size, and a second one at each size before; in the paper each size has one strided layer, whose checkers
            stay in the images. With `classify_fakes` true such a generator draws sharp images of wrong classes.
        discriminator_width: The same for the discriminator; they double five times.
        discriminator_norm: Whether the discriminator has batch norm, as in the paper.
        dropout: Share of the discriminator's activations that a training step leaves out, in each layer.
        activation_noise: Deviation of the noise on the inputs of each of the discriminator's convolutions.
        classifier: Weight of the class terms, L_C of equation 3.
        classify_fakes: Whether the discriminator learns the classes from fake images too, as L_C has it. If not, as in
            the published code of Gulrajani et al. 2017, the two networks cannot agree on signs of a class that real
            images do not have.
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0, as in the paper, is none.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Odena et al. 2017, Conditional Image Synthesis with Auxiliary Classifier GANs, https://arxiv.org/abs/1610.09585"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 32, 32), "num_classes": 10},
        "quick": {
            "image_shape": (3, 32, 32),
            "num_classes": 48,
            "latent_dim": 16,
            "width": 32,
            "refined": True,
            "discriminator_width": 8,
            "discriminator_norm": False,
            "dropout": 0.0,
            "activation_noise": 0.0,
            "classifier": 0.2,
            "classify_fakes": False,
            "lr": 2e-3,
            "betas": (0.0, 0.99),
            "penalty": 1.0,
            "ema_halflife_kimg": 5.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 5000, "data.batch_size": 100},
        "quick": {"kimg": 200, "data.batch_size": 16, "update.lr_decay": 0.4},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: NonNegativeInt = 10,
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 96,
        refined: bool = False,
        discriminator_width: PositiveInt = 16,
        discriminator_norm: bool = True,
        dropout: Decay = 0.5,
        activation_noise: NonNegativeFloat = 0.1,
        classifier: NonNegativeFloat = 1.0,
        classify_fakes: bool = True,
        lr: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        critic_steps: PositiveInt = 1,
        penalty: NonNegativeFloat = 0.0,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution % 8 or not 24 <= resolution <= 128:
            raise UserError(
                f"acgan makes square images of 24 to 128 pixels, a multiple of 8, not {height} x {resolution}"
            )
        if num_classes == 0:
            raise without_labels("acgan")
        self.num_classes = num_classes
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        side = resolution // 8
        self.generator = Generator(latent_dim, num_classes, width, side, channels, refined)
        self.discriminator = Discriminator(
            num_classes, discriminator_width, side, channels, dropout, activation_noise, discriminator_norm
        )
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
        chunks = (batch[key].chunk(self.critic_steps) for key in ("image", "label"))
        for images, labels in zip(*chunks, strict=True):
            with self.update(opt_d) as step_d:
                for real, label in step_d.parts(images, labels):
                    fake = self.generator(self.randn(len(real), self.latent_dim), label)
                    real.requires_grad_(self.hparams.penalty > 0)
                    logits_real, classes_real = self.discriminator(self.augmented(real))
                    logits_fake, classes_fake = self.discriminator(self.augmented(fake))
                    loss_s = minimax_d(logits_real, logits_fake)  # -L_S, equation 2
                    loss_c = F.cross_entropy(classes_real.float(), label)
                    if self.hparams.classify_fakes:
                        loss_c = loss_c + F.cross_entropy(classes_fake.float(), label)
                    loss_d = loss_s + self.hparams.classifier * loss_c  # -(L_S + L_C)
                    if self.hparams.penalty > 0:
                        loss_d = loss_d + self.hparams.penalty * zero_centred_penalty(logits_real, real)
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real, label in step_g.parts(images, labels):
                fake = self.generator(self.randn(len(real), self.latent_dim), label)
                logits, classes = self.discriminator(self.augmented(fake))
                loss_g = non_saturating_g(logits) + self.hparams.classifier * F.cross_entropy(classes.float(), label)
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
        assert condition is not None
        return self.averaged("generator")(latents, condition["label"])
