"""Few-shot adversarial learning of talking heads: Zakharov, Shysheya, Burkov, Lempitsky, ICCV 2019

https://arxiv.org/abs/1905.08233. There is no code of the authors'.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from lgen_reenact.networks import Discriminator, Embedder, Generator
from lightning_gen.errors import UserError, without_labels
from lightning_gen.losses import hinge_d, hinge_g
from lightning_gen.module import Decay, GenerativeModule, StepOutput
from lightning_gen.perceptual import Perceptual, PerceptualLoss


class Reenact(GenerativeModule):
    """A person from a few frames, moved by landmarks: meta-learning over many people (section 3.2).

    The embedder makes a vector of the person's frames, the generator draws landmarks as that person, and the
    discriminator knows each person of the training set by a vector of its own. `lgen-reenact tune` then learns a new
    person from one to eight frames (section 3.3).

    Differences from the paper: the content term looks at the maps of `perceptual` alone, without VGGFace, and at the
    pixels if `weight_pixels` says so; the number of discriminator updates is two for a generator update, on one batch.

    Args:
        image_shape: (channels, height, width) of frames; 3 channels, square.
        num_classes: Number of people in training; the data says it.
        width: Feature maps of each network nearest the picture; they double up to eight times as many.
        halvings: Of the embedder and of the discriminator; the vectors are as long as their last maps are many.
        generator_halvings: Of the generator, before it doubles again.
        blocks: Residual blocks of the generator that keep the size.
        perceptual: Network in whose eyes frames shall be alike: vgg19 (the paper's, 548 MB once) or tiny.
        weight_content: Weight of the distance of maps, the content term.
        weight_pixels: Weight of the mean absolute difference of pixels.
        weight_features: Weight of feature matching in the discriminator, equation 4.
        weight_match: Weight of the distance between the embedder's vector and the discriminator's.
        lr: Learning rate of embedder and generator.
        lr_discriminator: Learning rate of the discriminator.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averages of embedder and generator in thousands of images; 0 keeps none.
    """

    paper = (
        "Zakharov et al. 2019, Few-Shot Adversarial Learning of Realistic Neural Talking Head Models, "
        "https://arxiv.org/abs/1905.08233"
    )
    views = ("landmarks", "image")
    context = ("shots",)
    usual_data = "faces"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 256, 256)},
        "quick": {
            "image_shape": (3, 32, 32),
            "width": 16,
            "halvings": 3,
            "generator_halvings": 2,
            "blocks": 2,
            "perceptual": "tiny",
            "weight_content": 1.0,
            "weight_pixels": 20.0,
            "weight_features": 1.0,
            "lr": 1e-3,
            "lr_discriminator": 1e-3,
            "betas": (0.5, 0.99),
            "ema_halflife_kimg": 1.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 30000, "data.batch_size": 48, "data.shots": 8},
        "quick": {"kimg": 36, "data.batch_size": 8, "update.lr_decay": 0.5},
    }
    any_layout = True
    checked: ClassVar[dict[str, Any]] = {"width": 4, "blocks": 1, "num_classes": 5}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 256, 256),
        num_classes: NonNegativeInt = 400,
        width: PositiveInt = 64,
        halvings: PositiveInt = 6,
        generator_halvings: PositiveInt = 4,
        blocks: PositiveInt = 5,
        perceptual: Perceptual = "vgg19",
        weight_content: NonNegativeFloat = 0.15,
        weight_pixels: NonNegativeFloat = 0.0,
        weight_features: NonNegativeFloat = 10.0,
        weight_match: NonNegativeFloat = 10.0,
        lr: PositiveFloat = 5e-5,
        lr_discriminator: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.0, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = self.input_shape = tuple(image_shape)
        if channels != 3 or height != resolution or resolution % (1 << max(halvings, generator_halvings)):
            raise UserError(
                f"reenact makes square frames in colour, a multiple of {1 << max(halvings, generator_halvings)} pixels "
                f"a side, not {channels} x {height} x {resolution}"
            )
        if num_classes == 0:
            raise without_labels("reenact")
        self.num_classes = num_classes
        self.context_shapes = {"shots": (1, 6, resolution, resolution)}
        self.embedder = Embedder(resolution, width, halvings)
        self.generator = Generator(resolution, width, generator_halvings, blocks)
        self.projection = nn.Linear(self.embedder.dim, self.generator.styles, bias=False)
        self.discriminator = Discriminator(resolution, width, halvings, num_classes)
        for name in ("embedder", "generator", "projection"):
            self.average(name, ema_halflife_kimg)
        self._content: PerceptualLoss | None = None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        settings = self.hparams
        ours = [*self.embedder.parameters(), *self.generator.parameters(), *self.projection.parameters()]
        return [
            torch.optim.Adam(self.discriminator.parameters(), settings.lr_discriminator, settings.betas),
            torch.optim.Adam(ours, settings.lr, settings.betas),
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        frames, landmarks, video = batch["image"], batch["landmarks"], batch["label"]
        with self.update(opt_g) as step_g, cached():
            person = self.embedder(batch["shots"])
            fake = self.generator(landmarks, self.projection(person))
            with torch.no_grad():
                _, maps_real = self.judged(frames, landmarks, self.discriminator.videos(video))
            logits, maps_fake = self.judged(fake, landmarks, self.discriminator.videos(video))
            distance = F.l1_loss(fake.float(), frames.float())
            match = F.l1_loss(person.float(), self.discriminator.videos(video).detach().float())
            loss_g = self.likeness(fake, frames, maps_fake, maps_real) + hinge_g(logits)  # equation 2
            step_g.backward(loss_g + self.hparams.weight_match * match)
        fake = fake.detach()
        for _ in range(2):
            with self.update(opt_d) as step_d, cached():
                known = self.discriminator.videos(video)
                logits_real, _ = self.judged(frames, landmarks, known)
                logits_fake, _ = self.judged(fake, landmarks, known)
                loss_d = hinge_d(logits_real, logits_fake)  # equation 6
                step_d.backward(loss_d)
        return self.step_output(
            len(frames),
            loss_d=loss_d,
            loss_g=loss_g,
            reconstruction=distance,
            logits_real=logits_real,
            logits_fake=logits_fake,
            grad_norm_d=step_d.grad_norm,
            grad_norm_g=step_g.grad_norm,
        )

    def judged(self, frames: Tensor, landmarks: Tensor, person: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the discriminator says of frames beside their landmarks: realism (B,), and its maps."""
        seen = torch.cat([frames.to(landmarks.dtype), landmarks], dim=1)
        return self.discriminator(self.augmented(seen), person)

    def likeness(self, fake: Tensor, frames: Tensor, maps_fake: list[Tensor], maps_real: list[Tensor]) -> Tensor:
        """How far drawn frames are from the true ones: content, pixels and feature matching, weighted."""
        settings = self.hparams
        if self._content is None:
            self._content = PerceptualLoss(settings.perceptual)
        matching = torch.stack([F.l1_loss(a.float(), b.float()) for a, b in zip(maps_fake, maps_real, strict=True)])
        return (
            settings.weight_content * self._content.distance_of_maps(fake, frames)
            + settings.weight_pixels * F.l1_loss(fake.float(), frames.float())
            + settings.weight_features * matching.sum()
        )

    def generate(self, latents: None, condition: dict[str, Tensor]) -> Tensor:
        """Frames of `condition["landmarks"]` as the people whom `condition["shots"]` shows, without tuning."""
        person = self.averaged("embedder")(condition["shots"])
        return self.averaged("generator")(condition["landmarks"], self.averaged("projection")(person))
