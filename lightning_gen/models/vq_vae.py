"""VQ-VAE: van den Oord, Vinyals, Kavukcuoglu, NeurIPS 2017, https://arxiv.org/abs/1711.00937

Published code (TensorFlow): https://github.com/google-deepmind/sonnet, examples/vqvae_example.ipynb
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen import noise
from lightning_gen.autoregressive import GatedPixelCNN
from lightning_gen.errors import UserError, without_labels
from lightning_gen.module import Decay, GenerativeModule, StepOutput

SHRINK = 4
"""Pixels on a code's side: two convolutions of stride 2 (section 4.1)."""


class Residual(nn.Module):
    """ReLU, 3x3, ReLU, 1x1, added to what came in (section 4.1); (B, width, H, W) to the same."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, hidden, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(hidden, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def encoder(channels: int, width: int, hidden: int, code_dim: int) -> nn.Sequential:
    """Images (B, C, H, W) -> z_e, (B, code_dim, H / 4, W / 4)."""
    return nn.Sequential(
        nn.Conv2d(channels, width // 2, 4, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width // 2, width, 4, stride=2, padding=1),
        Residual(width, hidden),
        Residual(width, hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, code_dim, 1),
    )


def decoder(channels: int, width: int, hidden: int, code_dim: int) -> nn.Sequential:
    """z_q, (B, code_dim, H / 4, W / 4) -> images (B, C, H, W), any real number."""
    return nn.Sequential(
        nn.Conv2d(code_dim, width, 3, padding=1),
        Residual(width, hidden),
        Residual(width, hidden),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(width // 2, channels, 4, stride=2, padding=1),
    )


class Prior(nn.Module):
    """p(z) of section 3.3, a gated PixelCNN over codes (B, 1, h, w) int64; gives logits (B, 1, codes, h, w)."""

    def __init__(self, codes: int, width: int, layers: int, classes: int):
        super().__init__()
        self.embedding = nn.Embedding(codes, width)
        self.network = GatedPixelCNN(1, width, codes, width, layers, kernel=3, classes=classes)

    def forward(self, codes: Tensor, label: Tensor | None) -> Tensor:
        return self.network(self.embedding(codes[:, 0]).movedim(-1, 1), label)

    def draw(self, uniform: Tensor, label: Tensor | None) -> Tensor:
        """Codes (B, 1, h, w) from as many uniform numbers."""
        return self.network.draw(uniform, lambda code: self.embedding(code).double(), label)


class VQVAE(GenerativeModule):
    """Autoencoder with discrete codes: each vector of a grid is the nearest of a codebook; a PixelCNN draws the grids.

    Differences from the paper: the prior is trained along with the codes, not after them (its gradient reaches nothing
    else, so it only sees codes that still move), and it is a small one with a 3x3 window.

    Args:
        image_shape: (channels, height, width); sides divisible by 4.
        num_classes: Number of labels; the data says it.
        conditional: Whether the prior draws codes for a label.
        codes: Vectors in the codebook (K).
        code_dim: Length of one (D).
        width: Feature maps of encoder and decoder.
        hidden: Feature maps inside their residual blocks.
        commitment: beta of equation 3.
        prior_width: Feature maps of the prior.
        prior_layers: Its layers.
        lr: Learning rate.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged decoder and prior in thousands of images; 0 keeps no average.
    """

    paper = "van den Oord et al. 2017, Neural Discrete Representation Learning, https://arxiv.org/abs/1711.00937"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 32, 32)},  # layers: section 4.1; the prior's size is ours
        "quick": {
            "image_shape": (3, 32, 32),
            "codes": 64,
            "code_dim": 16,
            "width": 64,
            "hidden": 32,
            "prior_width": 48,
            "prior_layers": 6,
            "lr": 1e-3,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 32000, "data.batch_size": 128},
        "quick": {"kimg": 160, "data.batch_size": 32, "update.lr_decay": 0.5},
    }

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: NonNegativeInt = 0,
        conditional: bool = False,
        codes: PositiveInt = 512,
        code_dim: PositiveInt = 64,
        width: PositiveInt = 256,
        hidden: PositiveInt = 256,
        commitment: NonNegativeFloat = 0.25,
        prior_width: PositiveInt = 128,
        prior_layers: PositiveInt = 12,
        lr: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.automatic_optimization = True
        channels, *sides = self.image_shape = tuple(image_shape)
        if any(side % SHRINK for side in sides):
            raise UserError(f"vq-vae makes images with sides divisible by 4, not {sides[0]} x {sides[1]}")
        if conditional and num_classes == 0:
            raise without_labels("vq-vae", optional=True)
        self.num_classes = num_classes if conditional else 0
        self.encoder = encoder(channels, width, hidden, code_dim)
        self.decoder = decoder(channels, width, hidden, code_dim)
        self.codebook = nn.Embedding(codes, code_dim)
        nn.init.uniform_(self.codebook.weight, -1 / codes, 1 / codes)
        self.prior = Prior(codes, prior_width, prior_layers, self.num_classes)
        self.average("decoder", ema_halflife_kimg)
        self.average("prior", ema_halflife_kimg)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        networks = (self.encoder, self.decoder, self.codebook, self.prior)
        parameters = [parameter for network in networks for parameter in network.parameters()]
        return torch.optim.Adam(parameters, self.hparams.lr, self.hparams.betas)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        x = batch["image"]
        z_e = self.encoder(x).float()
        codes = self.nearest(z_e)
        e = self.look_up(codes)
        z_q = z_e + (e - z_e).detach()  # the gradient passes straight through (section 3.2)
        reconstruction = F.mse_loss(self.decoder(z_q).float(), x.float())
        quantisation = F.mse_loss(e, z_e.detach()) + self.hparams.commitment * F.mse_loss(z_e, e.detach())
        logits = self.prior(codes, self.label(batch)).float()
        prior = F.cross_entropy(logits.transpose(1, 2), codes)
        return self.step_output(
            len(x),
            loss=reconstruction + quantisation + prior,  # equation 3, and the prior's nats for a code
            reconstruction=reconstruction,
            kl=prior,
            perplexity=self.perplexity(codes),
        )

    def nearest(self, z_e: Tensor) -> Tensor:
        """Equation 1: the nearest vector of the codebook to each of z_e (B, D, h, w), (B, 1, h, w) int64."""
        book = self.codebook.weight.float()
        vectors = z_e.movedim(1, -1)
        with torch.autocast(z_e.device.type, enabled=False):
            distance = book.square().sum(1) - 2 * vectors @ book.T
        return distance.argmin(-1).unsqueeze(1)

    def look_up(self, codes: Tensor) -> Tensor:
        """Codes (B, 1, h, w) -> their vectors, (B, D, h, w)."""
        return self.codebook(codes[:, 0]).movedim(-1, 1)

    def perplexity(self, codes: Tensor) -> Tensor:
        """How many codes a batch uses: exp of the entropy of their frequencies."""
        frequencies = torch.bincount(codes.flatten(), minlength=self.hparams.codes) / codes.numel()
        return torch.special.entr(frequencies).sum().exp()

    def label(self, condition: dict[str, Any] | None) -> Tensor | None:
        """The labels of a conditional prior."""
        return condition["label"] if self.num_classes and condition is not None else None

    def encode(self, images: Tensor) -> Tensor:
        """The codes, (B, 1, H / 4, W / 4) int64."""
        return self.nearest(self.encoder(images).float())

    def decode(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        return self.averaged("decoder")(self.look_up(latents)).clamp(-1, 1)

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        """The uniform numbers that codes are drawn with, (n, 1, H / 4, W / 4)."""
        _, height, width = self.image_shape
        return noise.uniform(n, 1, height // SHRINK, width // SHRINK, seed=seed, start=start)

    def exportable(self) -> GenerativeModule:
        raise UserError("the model draws code after code: there is no one pass to export, but its weights can be")

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        prior = self.averaged("prior")
        assert isinstance(prior, Prior)
        return self.decode(prior.draw(latents, self.label(condition)))
