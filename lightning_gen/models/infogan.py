"""InfoGAN: Chen, Duan, Houthooft, Schulman, Sutskever, Abbeel, NeurIPS 2016, https://arxiv.org/abs/1606.03657

Original code (TensorFlow): https://github.com/openai/InfoGAN
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen import noise
from lightning_gen.errors import UserError
from lightning_gen.layers import first_weights, normed
from lightning_gen.losses import minimax_d, non_saturating_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput


class Codes(NamedTuple):
    """The part of a latent vector that an image shall show: the truth, or what Q makes of the image."""

    category: Tensor
    """(B, K) int64: which category each of the K categorical codes is; of a guess the logits, (B, K, categories)."""
    place: Tensor
    """(B, C): the continuous codes, in [-1, 1]; of a guess their means."""


def information(codes: Codes, guess: Codes) -> Tensor:
    """L_I of equation 5, the lower bound E[log Q(c|x)] + H(c) of the mutual information of codes and images, in nats.

    Q says of a categorical code its softmax, of a continuous one a Gaussian of unit variance, as in the published code.
    """
    logits, mean = guess.category.float(), guess.place.float()
    bound = mean.new_zeros(())
    if codes.category.shape[1] > 0:
        log_q = -F.cross_entropy(logits.flatten(0, 1), codes.category.flatten())
        bound = bound + codes.category.shape[1] * (log_q + math.log(logits.shape[2]))
    if codes.place.shape[1] > 0:
        log_q = -(codes.place - mean).square().mean() / 2 - math.log(2 * math.pi) / 2
        bound = bound + codes.place.shape[1] * (log_q + math.log(2))
    return bound


def generator(latent_dim: int, width: int, side: int, channels: int, refined: bool) -> nn.Sequential:
    """Table 1, right: latents and codes (B, latent_dim) -> images (B, C, 4 side, 4 side) in [-1, 1]."""
    layers: list[nn.Module] = []
    for narrow, wide in ((latent_dim, 16 * width), (16 * width, 2 * width * side**2)):
        layers += [nn.Linear(narrow, wide), nn.BatchNorm1d(wide), nn.ReLU(inplace=True)]
    layers.append(nn.Unflatten(1, (2 * width, side, side)))
    if refined:
        for wide in (2 * width, width):
            layers += normed(nn.Conv2d(wide, wide, 3, padding=1))
            layers += normed(nn.ConvTranspose2d(wide, max(1, wide // 2), 4, stride=2, padding=1))
        last: nn.Module = nn.Conv2d(max(1, width // 2), channels, 3, padding=1)
    else:
        layers += normed(nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1))
        last = nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1)
    return nn.Sequential(*layers, last, nn.Tanh())


class Discriminator(nn.Module):
    """Table 1, left: images (B, C, 4 side, 4 side) -> logits (B,), and what Q guesses of the codes.

    D and Q share all layers but the last ones.
    """

    def __init__(
        self, width: int, side: int, channels: int, codes: int, categories: int, places: int, batch_norm: bool
    ):
        super().__init__()
        self.codes, self.categories = codes, categories

        def finished(layer: nn.Module, norm: nn.Module) -> list[nn.Module]:
            return [layer, *([norm] if batch_norm else []), nn.LeakyReLU(0.1, inplace=True)]

        self.trunk = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            *finished(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.BatchNorm2d(2 * width)),
            nn.Flatten(),
            *finished(nn.Linear(2 * width * side**2, 16 * width), nn.BatchNorm1d(16 * width)),
        )
        self.logit = nn.Linear(16 * width, 1)
        self.guess = nn.Sequential(
            *finished(nn.Linear(16 * width, 2 * width), nn.BatchNorm1d(2 * width)),
            nn.Linear(2 * width, codes * categories + places),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Codes]:
        features = self.trunk(images)
        guess = self.guess(features)
        of_categories = self.codes * self.categories
        logits = guess[:, :of_categories].unflatten(1, (self.codes, self.categories))
        return self.logit(features).squeeze(1), Codes(logits, guess[:, of_categories:])


class InfoGAN(GenerativeModule):
    """Codes that the image must show: they come to stand for what varies most, without labels.

    Networks and settings are those of MNIST. Differences from the paper: images in [-1, 1] and tanh, where the code has
    [0, 1] and a sigmoid. Where the paper is silent the published code is followed (Q's Gaussian has unit variance, D
    and Q take one step together, and so do G and Q's bound). The preset `quick` leaves batch norm out of the
    discriminator and adds what the paper does not have: R1, and a generator whose last layer works at the image's own
    size.

    Args:
        image_shape: (channels, height, width); square, a multiple of 4 from 16 to 64 pixels.
        noise_dim: Length of the part of the latent vector that means nothing in particular.
        categorical_codes: Number of categorical codes.
        categories: Values of each categorical code.
        continuous_codes: Number of continuous codes, uniform in [-1, 1].
        width: Feature maps of the generator's layer at half the image's size (64 in the paper); the others before it
            have multiples.
        refined: Whether the generator has one more layer, half as wide, at the image's own size and a second one at
            each size before; in the paper each size has one strided layer.
        discriminator_width: The same for the discriminator.
        discriminator_norm: Whether the discriminator has batch norm, as in the paper.
        information: Weight of the mutual information's lower bound (lambda of equation 6).
        lr: Learning rate of D and Q.
        lr_generator: Learning rate of the generator.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        penalty: Weight of the zero-centred gradient penalty on real images (R1); 0, as in the paper, is none.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = "Chen et al. 2016, InfoGAN: Interpretable Representation Learning by Information Maximizing GANs, https://arxiv.org/abs/1606.03657"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (1, 28, 28)},
        "quick": {
            "image_shape": (3, 32, 32),
            "noise_dim": 16,
            "categories": 8,
            "width": 32,
            "refined": True,
            "discriminator_width": 32,
            "discriminator_norm": False,
            "lr": 2e-3,
            "lr_generator": 2e-3,
            "betas": (0.0, 0.99),
            "penalty": 3.0,
            "ema_halflife_kimg": 5.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 640, "data.batch_size": 128},
        "quick": {"kimg": 200, "data.batch_size": 16, "update.lr_decay": 0.4},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        noise_dim: PositiveInt = 62,
        categorical_codes: NonNegativeInt = 1,
        categories: PositiveInt = 10,
        continuous_codes: NonNegativeInt = 2,
        width: PositiveInt = 64,
        refined: bool = False,
        discriminator_width: PositiveInt = 64,
        discriminator_norm: bool = True,
        information: NonNegativeFloat = 1.0,
        lr: PositiveFloat = 2e-4,
        lr_generator: PositiveFloat = 1e-3,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        critic_steps: PositiveInt = 1,
        penalty: NonNegativeFloat = 0.0,
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution % 4 or not 16 <= resolution <= 64:
            raise UserError(
                f"infogan makes square images of 16 to 64 pixels, a multiple of 4, not {height} x {resolution}"
            )
        if categorical_codes + continuous_codes == 0:
            raise UserError("infogan needs a code: --model.categorical_codes or --model.continuous_codes above 0")
        self.latent_dim = noise_dim + categorical_codes * categories + continuous_codes
        self.critic_steps = critic_steps
        self.generator = generator(self.latent_dim, width, resolution // 4, channels, refined)
        codes = (categorical_codes, categories, continuous_codes)
        self.discriminator = Discriminator(
            discriminator_width, resolution // 4, channels, *codes, batch_norm=discriminator_norm
        )
        first_weights(self.generator)
        first_weights(self.discriminator)
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        rates = ((self.discriminator, self.hparams.lr), (self.generator, self.hparams.lr_generator))
        return [torch.optim.Adam(network.parameters(), lr, self.hparams.betas) for network, lr in rates]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        for images in batch["image"].chunk(self.critic_steps):
            with self.update(opt_d) as step_d:
                for real in step_d.parts(images):
                    if len(real) == 1:
                        raise UserError(
                            "infogan's dense layers are normalised over the images that they see together: 2 or more "
                            "in a process's batch (--data.batch_size), and in a part (--update.accumulate)"
                        )
                    latents, codes = self.spell(self.rand(len(real), self.draws))
                    fake = self.generator(latents)
                    real.requires_grad_(self.hparams.penalty > 0)
                    logits_real, _ = self.discriminator(self.augmented(real))
                    logits_fake, guess = self.discriminator(self.augmented(fake))
                    bound = information(codes, guess)
                    loss_d = minimax_d(logits_real, logits_fake) - self.hparams.information * bound
                    if self.hparams.penalty > 0:
                        loss_d = loss_d + self.hparams.penalty * zero_centred_penalty(logits_real, real)
                    step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real in step_g.parts(images):
                latents, codes = self.spell(self.rand(len(real), self.draws))
                logits, guess = self.discriminator(self.augmented(self.generator(latents)))
                loss_g = non_saturating_g(logits) - self.hparams.information * information(codes, guess)
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

    @property
    def draws(self) -> int:
        """Uniform numbers that a latent vector is spelt from."""
        return self.hparams.noise_dim + self.hparams.categorical_codes + self.hparams.continuous_codes

    def spell(self, draws: Tensor) -> tuple[Tensor, Codes]:
        """Latents (n, latent_dim), and the codes in them, from uniform numbers (n, draws) in [0, 1): noise in [-1, 1],
        one-hot categories, continuous codes in [-1, 1]."""
        own = self.hparams
        free, which, place = draws.split([own.noise_dim, own.categorical_codes, own.continuous_codes], dim=1)
        codes = Codes((which * own.categories).long().clamp_max(own.categories - 1), 2 * place - 1)
        one_hot = F.one_hot(codes.category, own.categories).flatten(1).to(draws.dtype)
        return torch.cat([2 * free - 1, one_hot, codes.place], dim=1), codes

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        return self.spell(noise.uniform(n, self.draws, seed=seed, start=start))[0]

    def generate(
        self,
        latents: Tensor,
        condition: dict[str, Any] | None = None,
        *,
        category: int | None = None,
        place: float | None = None,
    ) -> Tensor:
        """`category` sets the first categorical code of all images, `place` the first continuous one, in [-1, 1]."""
        own = self.hparams
        latents = latents.clone()
        if category is not None:
            if own.categorical_codes == 0:
                raise UserError(f"category {category}: this model has no categorical code")
            if not 0 <= category < own.categories:
                raise UserError(f"category {category}: the code has {own.categories} values, from 0 on")
            latents[:, own.noise_dim : own.noise_dim + own.categories] = 0
            latents[:, own.noise_dim + category] = 1
        if place is not None:
            if own.continuous_codes == 0:
                raise UserError(f"place {place}: this model has no continuous code")
            latents[:, own.noise_dim + own.categorical_codes * own.categories] = place
        return self.averaged("generator")(latents)
