"""PixelRNN: van den Oord, Kalchbrenner, Kavukcuoglu, ICML 2016, https://arxiv.org/abs/1601.06759

Both recurrences of the paper: the Row LSTM (section 3.1) and the Diagonal BiLSTM (section 3.2). Each layer has two ways
through it: `forward` takes a whole image, as training does, and `start_row` with `pixel` take one pixel after the other
from what is kept of the row above and the pixel before, as drawing does.
"""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen import noise
from lightning_gen.autoregressive import inverted, seen
from lightning_gen.errors import UserError
from lightning_gen.likelihood import Intervals, bits_per_dimension
from lightning_gen.module import Decay, GenerativeModule, StepOutput


class Masked(nn.Conv2d):
    """Convolution over what comes before a pixel, and at the pixel as far as `seen` lets it; keeps the size."""

    mask: Tensor

    def __init__(self, maps: int, out: int, kernel: tuple[int, int], groups: int, itself: bool = True):
        super().__init__(maps, out, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
        mask = torch.zeros(out, maps, *kernel)
        mask[:, :, : kernel[0] // 2] = 1
        mask[:, :, kernel[0] // 2, : kernel[1] // 2] = 1
        mask[:, :, kernel[0] // 2, kernel[1] // 2] = seen(out, maps, groups, itself)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)

    def at_end(self, window: Tensor) -> Tensor:
        """At the last pixel of a window (B, in, 1, w) that has nothing after it, (B, out)."""
        weight = (self.weight * self.mask)[:, :, 0, : self.kernel_size[1] // 2 + 1]
        width = window.shape[3]
        return F.linear(window[:, :, 0].flatten(1), weight[:, :, -width:].flatten(1), self.bias)


def cell(gates: Tensor, memory: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Equation 3: gates (B, 4h, ...) and the cells before, (B, h, ...) -> states and cells, (B, h, ...) each."""
    gates = gates.to(torch.promote_types(gates.dtype, torch.float32))  # memory adds up: not in bf16
    o, f, i, g = (part.flatten(1, 2) for part in gates.unflatten(1, (groups, 4, -1)).unbind(2))
    memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
    return o.sigmoid() * memory.tanh(), memory


class RowLSTM(nn.Module):
    """Rows from top to bottom: a state sees three of the row above, and through them a triangle. (B, 2h, H, W) -> h."""

    def __init__(self, hidden: int, groups: int):
        super().__init__()
        self.groups = groups
        self.to_gates = Masked(2 * hidden, 4 * hidden, (1, 3), groups)
        self.between = nn.Conv2d(hidden, 4 * hidden, (1, 3), padding=(0, 1), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.to_gates(x).split(1, dim=2)
        state = memory = torch.zeros_like(gates[0].chunk(4, dim=1)[0])
        rows = []
        for row in gates:
            state, memory = cell(row + self.between(state), memory, self.groups)
            rows.append(state)
        return torch.cat(rows, dim=2)

    def start(self, x: Tensor) -> None:
        """Before the first row of images like the maps x (B, 2h, H, W)."""
        self.x, self.row = x, -1
        self.state = x.new_zeros(len(x), x.shape[1] // 2, 1, x.shape[3])
        self.memory = self.state.clone()

    def start_row(self) -> None:
        """What the row above says is the same for all its pixels."""
        self.row += 1
        self.over, self.above = self.between(self.state)[:, :, 0], self.memory[:, :, 0].clone()

    def pixel(self, j: int) -> Tensor:
        """The state (B, h) at pixel j of the row, from the maps of x up to it."""
        window = self.x[:, :, self.row : self.row + 1, max(0, j - 1) : j + 1]
        state, memory = cell(self.to_gates.at_end(window) + self.over[:, :, j], self.above[:, :, j], self.groups)
        self.state[:, :, 0, j], self.memory[:, :, 0, j] = state, memory
        return state


class Diagonal(nn.Module):
    """One direction of the Diagonal BiLSTM: a state sees that above it and that at its left, and so all before."""

    def __init__(self, hidden: int, groups: int):
        super().__init__()
        self.groups = groups
        self.to_gates = Masked(2 * hidden, 4 * hidden, (1, 1), groups)
        self.above = nn.Linear(hidden, 4 * hidden, bias=False)
        self.left = nn.Linear(hidden, 4 * hidden, bias=False)

    def forward(self, gates: Tensor) -> Tensor:
        """Gates (B, 4h, H, W) of the inputs -> states (B, h, H, W), diagonal after diagonal (figure 3)."""
        height, width = gates.shape[2:]
        # row i moves i to the right: what stood on a diagonal stands in a column
        skewed = F.pad(gates, (0, height)).flatten(2)[:, :, : height * (width + height) - height]
        columns = skewed.unflatten(2, (height, width + height - 1)).unbind(3)
        state = memory = torch.zeros_like(columns[0].chunk(4, dim=1)[0])
        states = []
        for column in columns:
            before = state.transpose(1, 2)
            over = self.left(before) + self.above(F.pad(before, (0, 0, 1, -1)))
            state, memory = cell(column + over.transpose(1, 2), memory, self.groups)
            states.append(state)
        rows = F.pad(torch.stack(states, dim=3).flatten(2), (0, height))
        return rows.unflatten(2, (height, width + height))[:, :, :, :width]

    def next(self, gates: Tensor, above: Tensor, left: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """One pixel: gates (B, 4h), states above and left and the cell at the left, (B, h) each."""
        return cell(gates + self.above(above) + self.left(left), memory, self.groups)


class DiagonalBiLSTM(nn.Module):
    """From both upper corners; the right one moves down by a row, as in its own it ran over what comes later.

    It runs over what mask A left of each pixel, so the last pixel of a row reaches pixels of the next row only through
    the first layer's window, and all others from the row after on: the paper's network, blind spot included.
    """

    def __init__(self, hidden: int, groups: int):
        super().__init__()
        self.from_left, self.from_right = Diagonal(hidden, groups), Diagonal(hidden, groups)

    def forward(self, x: Tensor) -> Tensor:
        left = self.from_left(self.from_left.to_gates(x))
        right = self.from_right(self.from_right.to_gates(x).flip(3)).flip(3)
        return left + F.pad(right, (0, 0, 1, -1))

    def start(self, x: Tensor) -> None:
        """As `RowLSTM.start`."""
        self.x, self.row = x, -1
        self.above = x.new_zeros(len(x), x.shape[1] // 2, x.shape[3])
        self.state, self.memory = self.above.clone(), self.above.clone()
        self.right = self.above.clone()

    def start_row(self) -> None:
        """The row above is complete now: the other direction runs through it."""
        self.row += 1
        self.above = self.state.clone()
        if self.row == 0:
            return
        gates = self.from_right.to_gates(self.x[:, :, self.row - 1 : self.row])[:, :, 0]
        state = memory = torch.zeros_like(self.right[:, :, 0])
        for j in reversed(range(self.x.shape[3])):
            state, memory = self.from_right.next(gates[:, :, j], self.right[:, :, j], state, memory)
            self.right[:, :, j] = state

    def pixel(self, j: int) -> Tensor:
        """As `RowLSTM.pixel`."""
        gates = self.from_left.to_gates.at_end(self.x[:, :, self.row : self.row + 1, j : j + 1])
        before, memory = self.state[:, :, j - 1], self.memory[:, :, j - 1]
        if j == 0:
            before, memory = torch.zeros_like(before), torch.zeros_like(memory)
        state, memory = self.from_left.next(gates, self.above[:, :, j], before, memory)
        self.state[:, :, j], self.memory[:, :, j] = state, memory
        return state + self.right[:, :, j]


RECURRENCES = {"row": RowLSTM, "diagonal": DiagonalBiLSTM}


class PixelRNNNetwork(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> logits (B, C, levels, H, W). Table 1."""

    def __init__(self, channels: int, hidden: int, layers: int, head: int, levels: int, recurrence: str):
        super().__init__()
        self.channels, self.levels = channels, levels
        self.first = Masked(channels, 2 * hidden, (7, 7), channels, itself=False)
        self.layers = nn.ModuleList(RECURRENCES[recurrence](hidden, channels) for _ in range(layers))
        self.rise = nn.ModuleList(Masked(hidden, 2 * hidden, (1, 1), channels) for _ in range(layers))
        self.head = nn.Sequential(
            nn.ReLU(),
            Masked(2 * hidden, head, (1, 1), channels),
            nn.ReLU(),
            Masked(head, channels * levels, (1, 1), channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer, rise in zip(self.layers, self.rise, strict=True):
            x = x + rise(layer(x))  # figure 5
        return self.head(x).unflatten(1, (self.channels, self.levels))

    @torch.no_grad()
    def draw(self, uniform: Tensor, embed: Any, known: Tensor | None = None) -> Tensor:
        """Numbers (B, C, H, W) int64, pixel by pixel and in float64, as `GatedPixelCNN.draw` does."""
        exact = copy.deepcopy(self).double()
        batch, channels, height, width = uniform.shape
        drawn = torch.empty(uniform.shape, dtype=torch.long, device=uniform.device)
        image = uniform.new_zeros(batch, channels, height + 3, width + 6, dtype=torch.float64)
        maps = [image.new_zeros(batch, exact.first.out_channels, height, width) for _ in range(len(exact.layers) + 1)]
        weight = (exact.first.weight * exact.first.mask)[:, :, :4].flatten(1)
        layers: list[Any] = list(exact.layers)
        rises: list[Any] = list(exact.rise)
        for layer, x in zip(layers, maps, strict=False):
            layer.start(x)
        for i in range(height):
            for layer in layers:
                layer.start_row()
            for j in range(width):
                for c in range(channels):
                    window = image[:, :, i : i + 4, j : j + 7].flatten(1)
                    here = maps[0][:, :, i, j] = F.linear(window, weight, exact.first.bias)
                    for layer, rise, made in zip(layers, rises, maps[1:], strict=True):
                        here = made[:, :, i, j] = here + rise.at_end(layer.pixel(j)[:, :, None, None])
                    logits = exact.head(here[:, :, None, None]).unflatten(1, (channels, -1))[:, c, :, 0, 0]
                    stays = None if known is None else known[:, c, i, j]
                    number = drawn[:, c, i, j] = inverted(logits, uniform[:, c, i, j], stays)
                    image[:, c, i + 3, j + 3] = embed(number)
        return drawn


class PixelRNN(GenerativeModule):
    """PixelRNN: LSTM layers over rows or diagonals, so that every pixel sees all before it; exact likelihood.

    The loss is in bits per dimension; `levels` and completion of images as `pixelcnn`.

    Differences from the paper: Adam in the place of RMSProp; 129 and 1026 maps in the place of 128 and 1024, so that
    three channels divide them.

    Args:
        image_shape: (channels, height, width).
        recurrence: ``row`` (Row LSTM) or ``diagonal`` (Diagonal BiLSTM).
        levels: Intervals that the 256 values of a channel are told apart by; divides 256.
        hidden: Length of an LSTM's state (h), a multiple of the channels.
        layers: How many.
        head: Feature maps of the layer before the logits, a multiple of the channels.
        lr: Learning rate.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged network in thousands of images; 0 keeps no average.
    """

    paper = "van den Oord et al. 2016, Pixel Recurrent Neural Networks, https://arxiv.org/abs/1601.06759"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 32, 32)},
        "quick": {
            "image_shape": (3, 32, 32),
            "recurrence": "row",
            "levels": 16,
            "hidden": 24,
            "layers": 3,
            "head": 48,
            "lr": 2e-3,
            "ema_halflife_kimg": 1.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 25000, "data.batch_size": 16},
        "quick": {
            "kimg": 12,
            "data.batch_size": 16,
            "update.lr_decay": 0.5,
            "update.max_norm": 1.0,
            "metrics.samples": 256,
            "metrics.every_kimg": 12.0,
            "samples.every_kimg": 4.0,
            "watch.looks": 250,
        },
    }
    checked: ClassVar[dict[str, Any]] = {"image_shape": (3, 8, 8)}
    completes = True

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        recurrence: Literal["row", "diagonal"] = "diagonal",
        levels: PositiveInt = 256,
        hidden: PositiveInt = 129,
        layers: PositiveInt = 12,
        head: PositiveInt = 1026,
        lr: PositiveFloat = 1e-3,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.automatic_optimization = True
        channels, _, _ = self.image_shape = tuple(image_shape)
        if hidden % channels or head % channels:
            raise UserError(f"pixelrnn divides --model.hidden and --model.head among the image's {channels} channels")
        self.intervals = Intervals(levels)
        self.network = PixelRNNNetwork(channels, hidden, layers, head, levels, recurrence)
        self.average("network", ema_halflife_kimg)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), self.hparams.lr, self.hparams.betas)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        nats = self.nats(self.network, batch["image"]).mean()
        return self.step_output(len(batch["image"]), loss=nats * bits_per_dimension(1.0, math.prod(self.image_shape)))

    def nats(self, network: nn.Module, images: Tensor) -> Tensor:
        """-log p of 8-bit images, (B,). Equation 2."""
        numbers = self.intervals.numbers(images)
        return self.intervals.nats(network(self.intervals.middles(numbers)), numbers)

    def likelihood(self, batch: dict[str, Any], samples: int) -> dict[str, Tensor]:
        """Exact, whatever `samples`."""
        return {"nll": self.nats(self.averaged("network"), batch["image"])}

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        """The uniform numbers that the pixels are drawn with, (n, *image_shape)."""
        return noise.uniform(n, *self.image_shape, seed=seed, start=start)

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        known = None
        if condition is not None and "known" in condition:
            known = torch.where(condition["known"].bool(), self.intervals.numbers(condition["image"]), -1)
        network = self.averaged("network")
        assert isinstance(network, PixelRNNNetwork)
        return self.intervals.middles(network.draw(latents, self.intervals.middles, known))
