"""PixelCNN++: Salimans, Karpathy, Chen, Kingma, ICLR 2017, https://arxiv.org/abs/1701.05517

Published code (TensorFlow): https://github.com/openai/pixel-cnn. Cached sampling as in Ramachandran et al. 2017, Fast
Generation for Convolutional Autoregressive Models, https://arxiv.org/abs/1704.06001.

Two streams run through the network: `u` at a pixel sees all rows above it, `ul` sees those and the pixels left of it.
So a row of `u` can be computed at once, and a pixel of `ul` once those before it are known. `PixelCNNPP.wire` says
how the blocks hang together; it is handed whole images to train on, or `Map`s that fill row by row and pixel by pixel.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import cached

from lightning_gen import noise
from lightning_gen.errors import UserError
from lightning_gen.likelihood import LEVEL, LogisticMixture, bits_per_dimension
from lightning_gen.module import Decay, GenerativeModule, StepOutput

STAGES = 3
"""Resolutions, each half the one before (section 2.3)."""

Step = Callable[[int, int | None], None]
"""Computes row i of a map, or with j its pixel (i, j)."""


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of -x, one after the other in dimension 1. As in the published code."""
    return F.elu(torch.cat([x, -x], dim=1))


class Map:
    """Feature maps of an image that is being drawn, (B, maps, H, W), with a border of zeros above and at both sides.

    `scale` is how many pixels of the image one of its own is wide.
    """

    def __init__(self, batch: int, maps: int, size: tuple[int, int], scale: int, like: Tensor):
        self.values = like.new_zeros(batch, maps, size[0] + 1, size[1] + 2, dtype=torch.float64)
        self.size, self.scale = size, scale

    def follow(self, maps: int, stride: float) -> Map:
        """An empty one for what a layer of this stride makes of it."""
        height, width = (round(side / stride) for side in self.size)
        return Map(len(self.values), maps, (height, width), round(self.scale * stride), self.values)

    def at(self, i: int, j: int | None) -> Tensor:
        """Row i, (B, maps, 1, W), or pixel (i, j), (B, maps, 1, 1)."""
        return self.values[:, :, i + 1 : i + 2, 1:-1] if j is None else self.values[:, :, i + 1 : i + 2, j + 1 : j + 2]

    def put(self, values: Tensor, i: int, j: int | None) -> None:
        """Values (B, maps, h, w) from row i, pixel j or 0 on."""
        left, (height, width) = 1 + (j or 0), values.shape[2:]
        self.values[:, :, i + 1 : i + 1 + height, left : left + width] = values


class Causal(nn.Module):
    """Convolution over a pixel, what is above it, and left of it; with `right` only so far, else also right of it in
    the same rows. Strided by 2 it halves the image; (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, maps: int, out: int, kernel: tuple[int, int], right: bool, stride: int = 1):
        super().__init__()
        self.conv = weight_norm(nn.Conv2d(maps, out, kernel, stride=stride))
        self.kernel, self.right, self.stride, self.out = kernel, right, stride, out
        self.lead = 0 if right else (kernel[1] - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.kernel
        return self.conv(F.pad(x, (width - 1 - self.lead, self.lead, height - 1, 0)))

    def at(self, x: Map, before: Callable[[Tensor], Tensor] = lambda window: window) -> Callable[..., Tensor]:
        """A function of (i, j) that computes one row or pixel of what it makes of `before(x)`."""
        weight, bias, stride, (height, width) = self.conv.weight, self.conv.bias, self.stride, self.kernel
        flat = weight.flatten(1).T

        def compute(i: int, j: int | None) -> Tensor:
            rows = slice(i * stride - height + 2, i * stride + 2)
            if j is None:  # the border of 1 is the padding of a window of 3
                return F.conv2d(before(x.values[:, :, rows]), weight, bias, stride=(1, stride))
            columns = slice(j * stride - width + self.lead + 2, j * stride + self.lead + 2)
            window = before(x.values[:, :, rows, columns]).flatten(1)
            return torch.addmm(bias, window, flat)[:, :, None, None]

        return compute

    def step(self, x: Map, out: Map) -> Step:
        compute = self.at(x)
        return lambda i, j: out.put(compute(i, j), i, j)


class Grow(nn.Module):
    """Transposed convolution that doubles the image, and lets no pixel see more than its stream may."""

    stride = 0.5

    def __init__(self, maps: int, right: bool):
        super().__init__()
        self.right, self.out = right, maps
        sides: dict[str, Any] = {} if right else {"padding": (0, 1), "output_padding": (0, 1)}
        self.conv = weight_norm(nn.ConvTranspose2d(maps, maps, (2, 2 if right else 3), stride=2, **sides), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def step(self, x: Map, out: Map) -> Step:
        return lambda i, j: out.put(self.conv(x.at(i, j)), 2 * i, None if j is None else 2 * j)


class First(nn.Module):
    """Where a stream begins: windows that are shifted off the pixel itself, down for `u`, down or right for `ul`."""

    stride = 1

    def __init__(self, channels: int, width: int, right: bool):
        super().__init__()
        self.right, self.out = right, width
        self.above = Causal(channels, width, (1 if right else 2, 3), right=False)
        self.left = Causal(channels, width, (2, 1), right=True) if right else None

    def forward(self, x: Tensor) -> Tensor:
        shifted = F.pad(self.above(x), (0, 0, 1, -1))
        return shifted if self.left is None else shifted + F.pad(self.left(x), (1, -1))

    def step(self, x: Map, out: Map) -> Step:
        above, left = self.above.at(x), self.left.at(x) if self.left is not None else None

        def run(i: int, j: int | None) -> None:
            here = torch.zeros_like(out.at(i, j))
            if i > 0:
                here = here + above(i - 1, j)
            if left is not None and j:
                here = here + left(i, j - 1)
            out.put(here, i, j)

        return run


class Residual(nn.Module):
    """Gated residual block: x + a * sigmoid(b) of two convolutions, the first of which hears `aux` (section 2.4)."""

    stride = 1

    def __init__(self, width: int, aux: int, right: bool, dropout: float):
        super().__init__()
        self.right, self.out = right, width
        kernel = (2, 2) if right else (2, 3)
        self.first = Causal(2 * width, width, kernel, right)
        self.aux = weight_norm(nn.Conv2d(2 * aux, width, 1)) if aux else None
        self.dropout = nn.Dropout(dropout)
        self.second = Causal(2 * width, 2 * width, kernel, right)

    def forward(self, x: Tensor, *aux: Tensor) -> Tensor:
        hidden = self.hear(self.first(concat_elu(x)), aux)
        return self.add(x, self.second(self.dropout(concat_elu(hidden))))

    def hear(self, hidden: Tensor, aux: tuple[Tensor, ...]) -> Tensor:
        return hidden if self.aux is None else hidden + self.aux(concat_elu(torch.cat(aux, dim=1)))

    def add(self, x: Tensor, maps: Tensor) -> Tensor:
        a, b = maps.chunk(2, dim=1)
        return x + a * b.sigmoid()

    def step(self, x: Map, out: Map, *aux: Map) -> Step:
        hidden = x.follow(self.out, 1)
        first, second = self.first.at(x, concat_elu), self.second.at(hidden, concat_elu)

        def run(i: int, j: int | None) -> None:
            hidden.put(self.hear(first(i, j), tuple(other.at(i, j) for other in aux)), i, j)
            out.put(self.add(x.at(i, j), second(i, j)), i, j)

        return run


class PixelCNNPPNetwork(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> parameters of each pixel's mixture, (B, K * parameters, H, W). Figure 2."""

    def __init__(self, channels: int, width: int, blocks: int, mixtures: int, dropout: float):
        super().__init__()
        self.channels, self.blocks = channels, blocks
        self.first = nn.ModuleList(First(channels + 1, width, right) for right in (False, True))
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for stage in range(STAGES):
            if stage:
                kernels = ((2, 3), (2, 2))
                self.down.append(nn.ModuleList(Causal(width, width, kernels[r], bool(r), stride=2) for r in (0, 1)))
                self.up.append(nn.ModuleList(Grow(width, right) for right in (False, True)))
            for _ in range(blocks):
                pair = (Residual(width, 0, False, dropout), Residual(width, width, True, dropout))
                self.down.append(nn.ModuleList(pair))
            for _ in range(blocks + (stage > 0)):
                pair = (Residual(width, width, False, dropout), Residual(width, 2 * width, True, dropout))
                self.up.append(nn.ModuleList(pair))
        self.head = weight_norm(nn.Conv2d(width, mixtures * LogisticMixture.parameters(channels), 1))

    def forward(self, x: Tensor) -> Tensor:
        """The image has one more channel of ones: where it ends, zeros begin."""
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        return self.head(F.elu(self.wire(lambda block, *maps: block(*maps), x)))

    def wire(self, do: Callable[..., Any], x: Any) -> Any:
        """The blocks in their order; `do(block, x, *aux)` is what one makes of its input. On the way up each block
        hears what its counterpart on the way down made, and `ul` always hears `u`."""
        us, uls = ([do(first, x)] for first in self.first)
        down, up = (tuple[Any, ...](part) for part in (self.down, self.up))
        for to_u, to_ul in down:
            us.append(do(to_u, us[-1]))
            uls.append(do(to_ul, uls[-1], us[-1]) if isinstance(to_ul, Residual) else do(to_ul, uls[-1]))
        u, ul = us.pop(), uls.pop()
        for to_u, to_ul in up:
            if isinstance(to_u, Residual):
                u = do(to_u, u, us.pop())
                ul = do(to_ul, ul, u, uls.pop())
            else:
                u, ul = do(to_u, u), do(to_ul, ul)
        return ul

    @torch.no_grad()
    @cached()  # no weight is normalised again for every pixel
    def draw(self, uniform: Tensor, known: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], pixel by pixel, each stream computed once. In float64, as every rounding
        error at the border of two levels would become another image.

        Args:
            uniform: What they are drawn with, (B, 1 + C, H, W) in [0, 1).
            known: Values to keep, (B, C, H, W) in [-1, 1]; NaN where they are drawn.
        """
        exact = copy.deepcopy(self).double().eval()
        batch, _, height, width = uniform.shape
        x = Map(batch, self.channels + 1, (height, width), 1, uniform)
        x.values[:, -1, 1:, 1:-1] = 1
        rows: list[tuple[int, Step]] = []
        pixels: list[tuple[int, Step]] = []

        def plan(block: Any, source: Map, *aux: Map) -> Map:
            out = source.follow(block.out, block.stride)
            steps = pixels if block.right else rows
            steps.append((max(source.scale, out.scale), block.step(source, out, *aux)))
            return out

        last = exact.wire(plan, x)
        drawn = uniform.new_empty(batch, self.channels, height, width, dtype=torch.float64)
        for i in range(height):
            for scale, step in rows:
                if i % scale == 0:
                    step(i // scale, None)
            for j in range(width):
                for scale, step in pixels:
                    if i % scale == 0 and j % scale == 0:
                        step(i // scale, j // scale)
                mixture = LogisticMixture.of(exact.head(F.elu(last.at(i, j)))[:, :, 0, 0], self.channels)
                value = mixture.draw(uniform[:, :, i, j])
                if known is not None:
                    value = torch.where(known[:, :, i, j].isnan(), value, known[:, :, i, j].double())
                drawn[:, :, i, j] = value
                x.values[:, : self.channels, i + 1, j + 1] = value
        return drawn.float()


class PixelCNNPP(GenerativeModule):
    """PixelCNN++: two causal streams through three resolutions, a mixture of discretised logistics for each pixel.

    The loss is in bits per dimension. An image is completed as by `pixelcnn`: `sample` with a condition of `image`
    (n, *image_shape) and `known` (n, 1, H, W) bool.

    Differences from the paper: weight normalisation without its data-dependent start, no classes, logistics are drawn
    from and then rounded to levels, so that samples follow the likelihood exactly.

    Args:
        image_shape: (channels, height, width); sides divisible by 4.
        width: Feature maps of each stream.
        blocks: Gated residual blocks of each resolution.
        mixtures: Logistics of a pixel.
        dropout: Share of the maps that the residual blocks leave out.
        lr: Learning rate.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged network in thousands of images; 0 keeps no average.
    """

    paper = "Salimans et al. 2017, PixelCNN++: Improving the PixelCNN, https://arxiv.org/abs/1701.05517"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 32, 32), "ema_halflife_kimg": 22.0},  # a decay of 0.9995 a batch of 16
        "quick": {
            "image_shape": (3, 32, 32),
            "width": 24,
            "blocks": 1,
            "mixtures": 5,
            "dropout": 0.0,
            "lr": 2e-3,
            "ema_halflife_kimg": 1.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 100000, "data.batch_size": 16},
        "quick": {
            "kimg": 8,
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
        width: PositiveInt = 160,
        blocks: PositiveInt = 5,
        mixtures: PositiveInt = 10,
        dropout: Decay = 0.5,
        lr: PositiveFloat = 1e-3,
        betas: tuple[Decay, Decay] = (0.95, 0.9995),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.automatic_optimization = True
        channels, *sides = self.image_shape = tuple(image_shape)
        if any(side % 2 ** (STAGES - 1) for side in sides):
            raise UserError(f"pixelcnn++ makes images with sides divisible by 4, not {sides[0]} x {sides[1]}")
        self.network = PixelCNNPPNetwork(channels, width, blocks, mixtures, dropout)
        self.average("network", ema_halflife_kimg)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), self.hparams.lr, self.hparams.betas)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        nats = self.nats(self.network, batch["image"]).mean()
        return self.step_output(len(batch["image"]), loss=nats * bits_per_dimension(1.0, math.prod(self.image_shape)))

    def nats(self, network: nn.Module, images: Tensor) -> Tensor:
        """-log p of 8-bit images in [-1, 1], (B,)."""
        mixture = LogisticMixture.of(network(images), self.image_shape[0])
        return -mixture.log_prob(images).flatten(1).sum(1)

    def likelihood(self, batch: dict[str, Any], samples: int) -> dict[str, Tensor]:
        """Exact, whatever `samples`."""
        return {"nll": self.nats(self.averaged("network"), batch["image"])}

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        """The uniform numbers that the pixels are drawn with, (n, 1 + C, H, W)."""
        channels, height, width = self.image_shape
        return noise.uniform(n, 1 + channels, height, width, seed=seed, start=start)

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        known = None
        if condition is not None and "known" in condition:
            levels = ((condition["image"] + 1) / LEVEL).round() * LEVEL - 1
            known = torch.where(condition["known"].bool(), levels, torch.nan)
        network = self.averaged("network")
        assert isinstance(network, PixelCNNPPNetwork)
        return network.draw(latents, known)
