"""StyleGAN2: Karras, Laine, Aittala, Hellsten, Lehtinen, Aila, CVPR 2020, https://arxiv.org/abs/1912.04958

Original code (TensorFlow, not free): https://github.com/NVlabs/stylegan2. This file is written from the paper.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.layers import EqualizedConv2d, EqualizedLinear, blur, enlarged, minibatch_stddev, pixel_norm
from lightning_gen.losses import minimax_d, non_saturating_g, path_lengths, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput

MAPPING_RATE = 0.01
"""Learning rate of the mapping network, relative to the others' (Karras et al. 2019, appendix C)."""
MEAN_STYLE = 0.995
"""What the mean of the styles keeps in each step; truncation pulls towards it."""
MEAN_LENGTH = 0.99
"""What the mean path length keeps each time that it is regularised (appendix B, beta_pl)."""


def activation(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the second moment: the scale is here, not in the weights (appendix B)."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels are scaled by a style (section 2.2, equations 1 and 3).

    Scaling the weights of each image apart is the same as scaling its feature maps before and after one convolution
    that all images share, which any device does fast and differentiates twice.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        style_dim: int,
        demodulate: bool = True,
        up: bool = False,
    ):
        super().__init__()
        self.style = EqualizedLinear(style_dim, in_channels, gain=1.0)
        nn.init.ones_(self.style.bias)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.scale = 1 / math.sqrt(in_channels * kernel**2)
        self.demodulate = demodulate
        self.up = up

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(B, in, R, R), styles (B, style_dim) -> (B, out, R, R), or twice the size with `up`."""
        style = self.style(w)
        weight = self.weight * self.scale
        x = x * style[:, :, None, None].to(x.dtype)
        if self.up:
            x = blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), padding=1, gain=4.0)
        else:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        if self.demodulate:
            power = (style.float().square().unsqueeze(1) * weight.square().sum((2, 3))).sum(2)  # (B, out)
            x = x * torch.rsqrt(power + 1e-8)[:, :, None, None].to(x.dtype)
        return x


class StyledLayer(nn.Module):
    """Figure 2d: modulated convolution, noise of a learned strength, bias, activation."""

    noise: Tensor

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, resolution: int, up: bool):
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, style_dim, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        # what all samples get; while training the noise is new for each image
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        noise = self.noise if noise is None else noise
        x = self.conv(x, w)
        return activation(x + (self.noise_strength * noise).to(x.dtype) + self.bias.view(-1, 1, 1))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to an image, without demodulation (figure 7b, tRGB)."""

    def __init__(self, in_channels: int, channels: int, style_dim: int):
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, channels, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, w) + self.bias.view(-1, 1, 1)


class Generator(nn.Module):
    """Figure 7b, left, the skip generator: `styles` of latents (B, latent_dim), and of those images (B, C, R, R).

    A layer of the synthesis network takes one style; an image's styles are (layers, style_dim), 2 log2(R) - 2 layers.
    """

    mean_style: Tensor

    def __init__(self, latent_dim: int, mapping_layers: int, widths: list[int], channels: int):
        super().__init__()
        self.mapping = nn.ModuleList(EqualizedLinear(latent_dim, latent_dim, gain=1.0) for _ in range(mapping_layers))
        self.register_buffer("mean_style", torch.zeros(latent_dim))
        self.constant = nn.Parameter(torch.randn(widths[0], 4, 4))
        # at 4x4 pixels one layer, then two for each resolution, the first of which enlarges
        steps = [(widths[0], widths[0], 4, False)]
        for stage, (wide, narrow) in enumerate(itertools.pairwise(widths), start=1):
            steps += [(wide, narrow, 4 << stage, True), (narrow, narrow, 4 << stage, False)]
        self.layers = nn.ModuleList(StyledLayer(i, o, latent_dim, size, up) for i, o, size, up in steps)
        self.to_rgb = nn.ModuleList(ToRGB(width, channels, latent_dim) for width in widths)
        self.num_styles = len(self.layers) + 1

    def styles(self, latents: Tensor) -> Tensor:
        """The mapping network f: (B, latent_dim) -> w (B, latent_dim)."""
        w = pixel_norm(latents)
        for layer in self.mapping:
            w = activation(layer(w))
        return w

    def noise_shapes(self) -> list[tuple[int, ...]]:
        """What each layer adds to an image, (1, R, R)."""
        return [(1, *layer.get_buffer("noise").shape[2:]) for layer in self.layers]

    def forward(self, styles: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """The synthesis network g: styles (B, layers, latent_dim) and the layers' noise, (B, 1, R, R) each, to images;
        without noise the constant one, the same for all images."""
        w = styles.unbind(1)
        x = self.constant.expand(styles.shape[0], -1, -1, -1)
        image: Tensor | None = None
        for i, layer in enumerate(self.layers):
            x = layer(x, w[i], None if noise is None else noise[i])
            if i % 2 == 0:  # the last layer of its resolution
                rgb = self.to_rgb[i // 2](x, w[i + 1])
                image = rgb if image is None else enlarged(image) + rgb
        assert image is not None
        return image


class ResidualBlock(nn.Module):
    """Figure 7c, right: two 3x3 convolutions, the second one halving, beside a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = EqualizedConv2d(in_channels, in_channels, 3, gain=1.0)
        self.second = EqualizedConv2d(in_channels, out_channels, 3, gain=1.0)
        self.skip = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.scale = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, R, R) -> (B, out, R/2, R/2); the sum keeps the variance (appendix B)."""
        skip = F.conv2d(blur(x, padding=1, stride=2), self.skip * self.scale)
        x = activation(self.first(x))
        second = self.second
        x = F.conv2d(blur(x, padding=2), second.weight * second.scale, second.bias, stride=2)
        return (activation(x) + skip) / math.sqrt(2)


class Discriminator(nn.Module):
    """Figure 7c, the residual discriminator: images (B, C, R, R) -> logits (B,)."""

    def __init__(self, widths: list[int], channels: int):
        super().__init__()
        self.from_rgb = EqualizedConv2d(channels, widths[-1], 1, gain=1.0)
        self.blocks = nn.ModuleList(
            ResidualBlock(narrow, wide) for wide, narrow in reversed([*itertools.pairwise(widths)])
        )
        self.last = EqualizedConv2d(widths[0] + 1, widths[0], 3, gain=1.0)
        self.dense = EqualizedLinear(widths[0] * 16, widths[0], gain=1.0)
        self.logit = EqualizedLinear(widths[0], 1, gain=1.0)

    def forward(self, images: Tensor) -> Tensor:
        x = activation(self.from_rgb(images))
        for block in self.blocks:
            x = block(x)
        x = activation(self.last(minibatch_stddev(x)))
        x = activation(self.dense(x.flatten(1)))
        return self.logit(x).squeeze(1)


QUICK: dict[str, Any] = {
    "image_shape": (3, 32, 32),
    "latent_dim": 16,
    "mapping_layers": 2,
    "width": 64,
    "width_base": 512,
    "lr": 2e-2,
    "penalty": 10.0,
    "penalty_every": 4,
    "path_penalty": 0.0,
    "mixing": 0.0,
    "ema_halflife_kimg": 4.0,
}


class StyleGAN2(GenerativeModule):
    """Style-based generator: a mapped latent modulates every convolution. Regularised by gradient and path length.

    Differences from the paper: none in networks and losses of configuration F; the averaged generator's half-life is at
    most a twentieth of the images seen, so it is the published one after 200 kimg. What the paper leaves open: noise
    inputs are new for each image while training, and constant, the same for all images, in samples, so that an image is
    a function of its latent and the walk between two does not flicker; style mixing crosses over at a place of each
    image's own. The regularisers take steps of their own every `penalty_every` and `path_every` updates, counted from
    the start of the run. The preset `quick` does without style mixing and path length, as its authors' settings for
    CIFAR-10 do (https://github.com/NVlabs/stylegan2-ada-pytorch); with both, shapes come later.

    Args:
        image_shape: (channels, height, width); square, a power of two from 8 to 1024.
        latent_dim: Length of the latent vector and of a style.
        mapping_layers: Dense layers between latent and style.
        width: Feature maps at 4x4 pixels and the most that any layer has.
        width_base: Feature maps at resolution R are at most width_base / R.
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        critic_steps: Discriminator updates for each generator update.
        penalty: Weight of the zero-centred gradient penalty on real images (gamma of R1).
        penalty_every: Updates from one gradient penalty to the next.
        path_penalty: Weight of the path length penalty, in units of 1 / (layers * R^2) as in appendix B, where 2 is the
            paper's; 0 is none.
        path_every: Updates from one path length penalty to the next.
        mixing: Share of the images that are made from two styles.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = (
        "Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN, https://arxiv.org/abs/1912.04958"
    )
    recomputed = (StyledLayer, ResidualBlock)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 1024, 1024)},
        "quick": QUICK,
        "photographs": QUICK | {"penalty": 1.0},
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 25000, "data.batch_size": 32},
        "quick": {"kimg": 240, "data.batch_size": 8, "update.lr_decay": 0.4},
        "photographs": {"kimg": 96, "data.batch_size": 8, "update.lr_decay": 0.4},
    }

    mean_length: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        latent_dim: PositiveInt = 512,
        mapping_layers: PositiveInt = 8,
        width: PositiveInt = 512,
        width_base: PositiveInt = 32768,
        lr: PositiveFloat = 2e-3,
        betas: tuple[Decay, Decay] = (0.0, 0.99),
        critic_steps: PositiveInt = 1,
        penalty: NonNegativeFloat = 10.0,
        penalty_every: PositiveInt = 16,
        path_penalty: NonNegativeFloat = 2.0,
        path_every: PositiveInt = 4,
        mixing: ClosedUnitInterval = 0.9,
        ema_halflife_kimg: NonNegativeFloat = 10.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = tuple(image_shape)
        if height != resolution or resolution not in (8 << stage for stage in range(8)):
            raise UserError(f"stylegan2 makes square images of 8, 16, 32 ... 1024 pixels, not {height} x {resolution}")
        if latent_dim == 1:
            raise UserError("stylegan2 normalises latents, which leaves of one its sign: --model.latent_dim 2 or more")
        self.latent_dim = latent_dim
        self.critic_steps = critic_steps
        widths = [min(width, max(1, width_base // (4 << stage))) for stage in range(int(math.log2(resolution)) - 1)]
        self.generator = Generator(latent_dim, mapping_layers, widths, channels)
        self.discriminator = Discriminator(widths, channels)
        self.register_buffer("mean_length", torch.zeros(()))
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """With k updates to each regulariser there are k + 1 steps where there were k: rate and decays are adjusted so
        that a step does k / (k + 1) of the work (appendix B, "lazy regularization")."""
        mapping = list(self.generator.mapping.parameters())
        others = [p for name, p in self.generator.named_parameters() if not name.startswith("mapping.")]
        return [
            self._adam(
                [(list(self.discriminator.parameters()), 1.0)], self.hparams.penalty, self.hparams.penalty_every
            ),
            self._adam([(others, 1.0), (mapping, MAPPING_RATE)], self.hparams.path_penalty, self.hparams.path_every),
        ]

    def _adam(self, groups: list[tuple[list[nn.Parameter], float]], weight: float, every: int) -> torch.optim.Adam:
        share = every / (every + 1) if weight > 0 else 1.0
        lr, (first, second) = self.hparams.lr * share, self.hparams.betas
        return torch.optim.Adam(
            [{"params": parameters, "lr": rate * lr} for parameters, rate in groups],
            betas=(first**share, second**share),
            eps=1e-8,
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        updates = self.trainer.global_step  # before this one; it moves with the first update below
        weights = self.hparams
        for images in batch["image"].chunk(self.critic_steps):
            with self.update(opt_d) as step_d:
                for real in step_d.parts(images):
                    fake = self.generator(self.mixed_styles(len(real)), self.noise(len(real)))
                    logits_real = self.discriminator(self.augmented(real))
                    logits_fake = self.discriminator(self.augmented(fake))
                    loss_d = minimax_d(logits_real, logits_fake)
                    step_d.backward(loss_d)
            if weights.penalty > 0 and updates % weights.penalty_every == 0:
                with self.update(opt_d) as lazy_d:
                    for real in lazy_d.parts(images):
                        real = real.detach().requires_grad_()
                        slope = zero_centred_penalty(self.discriminator(self.augmented(real)), real)
                        lazy_d.backward(weights.penalty * slope * weights.penalty_every)
        with self.update(opt_g) as step_g:
            for real in step_g.parts(images):
                fake = self.generator(self.mixed_styles(len(real), follow=True), self.noise(len(real)))
                loss_g = non_saturating_g(self.discriminator(self.augmented(fake)))
                step_g.backward(loss_g)
        if weights.path_penalty > 0 and updates % weights.path_every == 0:
            with self.update(opt_g) as lazy_g:
                for real in lazy_g.parts(images):
                    lazy_g.backward(
                        weights.path_penalty * self.path_deviation((len(real) + 1) // 2) * weights.path_every
                    )
        return self.step_output(
            len(batch["image"]),
            loss_d=loss_d,
            loss_g=loss_g,
            logits_real=logits_real,
            logits_fake=logits_fake,
            grad_norm_d=step_d.grad_norm,
            grad_norm_g=step_g.grad_norm,
        )

    def noise(self, n: int) -> list[Tensor]:
        """New noise for every layer."""
        return [self.randn(n, *shape) for shape in self.generator.noise_shapes()]

    def mixed_styles(self, n: int, follow: bool = False) -> Tensor:
        """Styles (n, layers, D) of new latents. A share of `mixing` of the images takes a second style from a random
        layer on (Karras et al. 2019, section 3.1). With `follow` the mean style moves towards them."""
        generator = self.generator
        first, second = generator.styles(self.randn(2 * n, self.latent_dim)).unflatten(0, (n, 2)).unbind(1)
        if follow:
            self.trail(generator.mean_style, first.detach().float().mean(0), MEAN_STYLE)
        chance, place = self.rand(n, 2).unbind(1)
        crossover = 1 + (place * (generator.num_styles - 1)).floor()
        late = torch.arange(generator.num_styles, device=place.device) >= crossover.view(-1, 1)
        late = late & (chance < self.hparams.mixing).view(-1, 1)
        return torch.where(late.unsqueeze(2), second.unsqueeze(1), first.unsqueeze(1))

    def path_deviation(self, n: int) -> Tensor:
        """E[(|J_w^T y| - a)^2], a being the running mean of the lengths (section 3.2, equation 4), on half a batch
        (half of each part, rounded up)."""
        with self.differentiated_twice():
            styles = self.mixed_styles(n)
            images = self.generator(styles, self.noise(n))
        lengths = path_lengths(images, styles, self.randn(*images.shape))
        self.trail(self.mean_length, lengths.detach().mean(), MEAN_LENGTH)
        return (lengths - self.mean_length).square().mean()

    def trail(self, running: Tensor, now: Tensor, keep: float) -> None:
        """Move a running mean towards the mean over all ranks; it keeps `keep` in an update, in however many parts.
        What overflowed in fp16, whose update is not made, is left out: the mean would never be a number again."""
        now = self.mean_over_ranks(now)
        running.lerp_(torch.where(now.isfinite(), now, running), 1 - keep ** (1 / self.update_options.accumulate))

    def generate(
        self, latents: Tensor, condition: dict[str, Any] | None = None, truncation: NonNegativeFloat = 1.0
    ) -> Tensor:
        """Images from latents, one style for all layers. `truncation` scales each style's distance from the mean style
        (Karras et al. 2019, appendix B): 1 draws all that was learned, less draws the likelier, 0 the mean image."""
        generator = cast(Generator, self.averaged("generator"))
        w = torch.lerp(generator.mean_style, generator.styles(latents).float(), truncation)
        return generator(w.unsqueeze(1).expand(-1, generator.num_styles, -1))
