"""Gated PixelCNN: van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu, NeurIPS 2016,
https://arxiv.org/abs/1606.05328

The masks are those of Pixel Recurrent Neural Networks, van den Oord et al. 2016, https://arxiv.org/abs/1601.06759. The
network itself, with its cached sampling, is `lightning_gen.autoregressive`: the prior of `vq-vae` is one too.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from lightning_gen import noise
from lightning_gen.autoregressive import GatedPixelCNN
from lightning_gen.errors import UserError, without_labels
from lightning_gen.likelihood import Intervals, bits_per_dimension
from lightning_gen.module import Decay, GenerativeModule, StepOutput


class PixelCNN(GenerativeModule):
    """Gated PixelCNN: each value of each pixel from all before it; exact likelihood in bits per dimension.

    The loss is in bits per dimension. Fewer `levels` than 256 share the 256 among them: a pixel is then one of `levels`
    intervals and uniform within, which is still a probability of every 8-bit image, so the bits compare; samples are
    the middles of the intervals. To complete an image, `sample` takes a condition with `image` (n, *image_shape) and
    `known` (n, 1, H, W) bool, true where its pixels stay: each pixel is drawn given those before it, known or drawn, so
    the completion of a lower half is a draw from the model's conditional distribution, that of an upper half is not.

    Differences from the paper: Adam. The latent of an image is the uniform numbers that invert its distribution
    functions: a stream of noise, not a space to walk in.

    Args:
        image_shape: (channels, height, width).
        num_classes: Number of labels; the data says it.
        conditional: Whether images are drawn for a label.
        channel_order: In which order the channels of a pixel come.
        levels: Intervals that the 256 values of a channel are told apart by; divides 256.
        width: Feature maps of a layer, a multiple of the channels.
        layers: How many.
        kernel: Side of their windows, odd; the first layer's is 7.
        lr: Learning rate.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged network in thousands of images; 0 keeps no average.
    """

    paper = "van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders, https://arxiv.org/abs/1606.05328"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 32, 32)},  # section 3.1, ImageNet at 32 pixels
        "quick": {
            "image_shape": (3, 32, 32),
            "levels": 16,
            "width": 24,
            "layers": 5,
            "kernel": 3,
            "lr": 2e-3,
            "ema_halflife_kimg": 1.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 25600, "data.batch_size": 128},
        "quick": {
            "kimg": 16,
            "data.batch_size": 16,
            "update.lr_decay": 0.5,
            "update.max_norm": 1.0,
            "metrics.samples": 256,
            "metrics.every_kimg": 8.0,
            "samples.every_kimg": 4.0,
            "watch.looks": 250,
        },
    }

    checked: ClassVar[dict[str, Any]] = {"image_shape": (3, 8, 8)}
    completes = True

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: NonNegativeInt = 0,
        conditional: bool = False,
        channel_order: Literal["rgb", "rbg", "grb", "gbr", "brg", "bgr"] = "rgb",
        levels: PositiveInt = 256,
        width: PositiveInt = 384,
        layers: PositiveInt = 20,
        kernel: PositiveInt = 5,
        lr: PositiveFloat = 1e-4,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.automatic_optimization = True
        channels, _, _ = self.image_shape = tuple(image_shape)
        if width % channels:
            raise UserError(f"--model.width {width}: pixelcnn divides it among the {channels} channels of the image")
        if kernel % 2 == 0:
            raise UserError(f"--model.kernel {kernel}: windows have a middle, so their sides are odd")
        if conditional and num_classes == 0:
            raise without_labels("pixelcnn", optional=True)
        self.intervals = Intervals(levels)
        self.num_classes = num_classes if conditional else 0
        self.order = ["rgb".index(name) for name in channel_order] if channels == 3 else list(range(channels))
        self.network = GatedPixelCNN(channels, 1, levels, width, layers, kernel, self.num_classes)
        self.average("network", ema_halflife_kimg)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), self.hparams.lr, self.hparams.betas)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        nats = self.nats(self.network, self.numbers(batch["image"]), self.label(batch)).mean()
        loss = nats * bits_per_dimension(1.0, math.prod(self.image_shape))
        return self.step_output(len(batch["image"]), loss=loss)

    def numbers(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] to intervals 0 .. levels - 1, channels in their order, int64."""
        return self.intervals.numbers(images[:, self.order])

    def label(self, condition: dict[str, Any] | None) -> Tensor | None:
        """The labels of a conditional model."""
        return condition["label"] if self.num_classes and condition is not None else None

    def nats(self, network: Any, numbers: Tensor, label: Tensor | None) -> Tensor:
        """-log p of 8-bit images, (B,). Equation 1."""
        return self.intervals.nats(network(self.intervals.middles(numbers), label), numbers)

    def likelihood(self, batch: dict[str, Any], samples: int) -> dict[str, Tensor]:
        """Exact, whatever `samples`."""
        return {"nll": self.nats(self.averaged("network"), self.numbers(batch["image"]), self.label(batch))}

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        """The uniform numbers that the pixels are drawn with, (n, *image_shape)."""
        return noise.uniform(n, *self.image_shape, seed=seed, start=start)

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        known = None
        if condition is not None and "known" in condition:
            known = torch.where(condition["known"].bool(), self.numbers(condition["image"]), -1)
        network = self.averaged("network")
        assert isinstance(network, GatedPixelCNN)
        middles = self.intervals.middles
        drawn = network.draw(latents, lambda number: middles(number)[:, None], self.label(condition), known)
        return middles(drawn)[:, [self.order.index(c) for c in range(len(self.order))]]
