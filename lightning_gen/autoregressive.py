"""The gated PixelCNN: van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu, NeurIPS 2016,
https://arxiv.org/abs/1606.05328. The network alone: `pixelcnn` puts pixels into it, `vq-vae` the codes of its prior.

Numbers come row by row, pixel by pixel, channel by channel, and the distribution of each sees only those before it. A
vertical stack sees all rows above (figure 2), a horizontal one the row so far, and takes over from the vertical one
what a single masked stack would be blind to. Feature maps fall into as many groups as there are channels: group c at a
pixel sees the channels before c there (masks A and B: PixelRNN, van den Oord et al. 2016, section 3.4).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST = 7
"""Side of the first layer's window."""


def gate(x: Tensor, groups: int) -> Tensor:
    """tanh of one half of each group's maps times the sigmoid of the other, (B, 2p, ...) -> (B, p, ...). Equation 2."""
    a, b = x.unflatten(1, (groups, 2, -1)).unbind(2)
    return (a.tanh() * b.sigmoid()).flatten(1, 2)


def seen(out_maps: int, in_maps: int, groups: int, itself: bool) -> Tensor:
    """1 where a map may see another at the same pixel, (out_maps, in_maps): those of earlier groups, and with `itself`
    (mask B) of its own."""
    out_group = torch.arange(out_maps) * groups // out_maps
    in_group = torch.arange(in_maps) * groups // in_maps
    mask = out_group[:, None] >= in_group if itself else out_group[:, None] > in_group
    return mask.float()


def inverted(logits: Tensor, uniform: Tensor, known: Tensor | None) -> Tensor:
    """Numbers (B,) int64 where distribution functions reach `uniform` (B,), of logits (B, levels); those of `known`
    (B,) stay that are not -1."""
    chances = logits.softmax(1).cumsum(1)
    numbers = (chances < uniform[:, None]).sum(1).clamp_max(logits.shape[1] - 1)
    return numbers if known is None else torch.where(known < 0, numbers, known)


class Masked(nn.Conv2d):
    """Convolution over a pixel and those left of it in its row, (B, in, H, W) -> (B, out, H, W); `itself` as `seen`."""

    mask: Tensor

    def __init__(self, in_maps: int, out_maps: int, reach: int, groups: int, itself: bool):
        super().__init__(in_maps, out_maps, (1, reach + 1))
        self.reach = reach
        mask = torch.ones(out_maps, in_maps, 1, reach + 1)
        mask[:, :, 0, -1] = seen(out_maps, in_maps, groups, itself)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The row is padded at its left."""
        return F.conv2d(F.pad(x, (self.reach, 0)), self.weight * self.mask, self.bias)

    def part(self, group: int, groups: int) -> tuple[Tensor, Tensor]:
        """Weight (in * (reach + 1), out / groups) and bias of one group's maps."""
        weight = (self.weight * self.mask)[:, :, 0].chunk(groups)[group].flatten(1).T
        assert self.bias is not None
        return weight.contiguous(), self.bias.chunk(groups)[group]


class Layer(nn.Module):
    """Figure 2: both stacks, one step up."""

    def __init__(self, in_maps: int, width: int, kernel: int, groups: int, classes: int, first: bool):
        super().__init__()
        self.groups, self.first, self.reach = groups, first, kernel // 2
        self.vertical = nn.Conv2d(in_maps, 2 * width, (self.reach + 1, kernel))
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.horizontal = Masked(in_maps, 2 * width, self.reach, groups, itself=not first)
        self.out = Masked(width, width, 0, groups, itself=True)
        self.classes = nn.Embedding(classes, 4 * width) if classes else None

    def rise(self, v: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """Vertical stack: maps (B, in, H + reach, W), rows above the first included -> (B, p, H, W), and what the
        horizontal stack takes over, (B, 2p, H, W). With a label its vector is added to both (equation 4)."""
        maps = self.vertical(F.pad(v, (self.reach, self.reach)))
        over = self.link(maps)
        if self.classes is not None:
            up, across = self.classes(label)[:, :, None, None].chunk(2, dim=1)
            maps, over = maps + up, over + across
        return gate(maps, self.groups), over

    def forward(self, v: Tensor, h: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, in, H, W) of each stack -> (B, p, H, W) of each."""
        v, over = self.rise(F.pad(v, (0, 0, self.reach, 0)), label)
        across = self.out(gate(self.horizontal(h) + over, self.groups))
        return v, across if self.first else h + across


class GatedPixelCNN(nn.Module):
    """Maps (B, groups * E, H, W), E for each number of a pixel -> logits of every number, (B, groups, levels, H, W).

    Args:
        groups: Numbers of a pixel, predicted one after the other.
        maps: E, feature maps that stand for one number.
        levels: Values that a number can take.
        width: Feature maps of a layer (p), a multiple of `groups`.
        layers: How many.
        kernel: Side of the windows of all layers but the first.
        classes: Number of labels; 0 for none.
    """

    def __init__(self, groups: int, maps: int, levels: int, width: int, layers: int, kernel: int, classes: int = 0):
        super().__init__()
        self.groups, self.levels = groups, levels
        self.layers = nn.ModuleList(
            Layer(
                width if depth else groups * maps, width, kernel if depth else FIRST, groups, classes, first=not depth
            )
            for depth in range(layers)
        )
        self.hidden = Masked(width, width, 0, groups, itself=True)
        self.logits = Masked(width, groups * levels, 0, groups, itself=True)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """All logits at once, from what is before each number."""
        v, h = F.pad(x, (0, 0, 1, -1)), x  # the vertical stack sees the rows above
        for layer in self.layers:
            v, h = layer(v, h, label)
        logits = self.logits(F.relu(self.hidden(F.relu(h))))
        return logits.unflatten(1, (self.groups, self.levels))

    @torch.no_grad()
    def draw(
        self,
        uniform: Tensor,
        embed: Callable[[Tensor], Tensor],
        label: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Numbers (B, groups, H, W) int64, drawn one after the other by inversion of their distribution functions.

        What a layer made of earlier pixels is kept: a row of the vertical stack is computed once, and a number costs
        one pixel of the horizontal stack, not a pass over the image. In float64: a rounding error at the border of two
        levels would become another number, and then another image.

        Args:
            uniform: What they are drawn with, (B, groups, H, W) in [0, 1).
            embed: Numbers (B,) int64 to the maps that stand for one, (B, E).
            label: Classes (B,).
            known: Numbers to keep as they are, (B, groups, H, W) int64; where it is -1 they are drawn.
        """
        batch, groups, height, width = uniform.shape
        exact = copy.deepcopy(self).double()
        stack = [Stack(layer, batch, height, width) for layer in exact.layers]  # type: ignore[arg-type]
        head = [(exact.hidden.part(c, groups), exact.logits.part(c, groups)) for c in range(groups)]
        share = exact.hidden.in_channels // groups
        drawn = torch.empty(batch, groups, height, width, dtype=torch.long, device=uniform.device)
        above: Tensor | None = None
        hidden = uniform.new_zeros(batch, self.hidden.in_channels, dtype=torch.float64)
        for i in range(height):
            v = stack[0].blank_row() if above is None else above
            for kept in stack:
                v = kept.rise(i, v, label)  # the whole row: it hangs on the rows above alone
            for j in range(width):
                for c in range(groups):
                    h: Tensor | None = None
                    for kept in stack:
                        h = kept.across(j, c, h)
                    (weight, bias), (top_weight, top_bias) = head[c]
                    maps = torch.addmm(bias, stack[-1].pixel.relu(), weight)
                    hidden[:, c * share : (c + 1) * share] = maps.relu()
                    logits = torch.addmm(top_bias, hidden, top_weight)
                    stays = None if known is None else known[:, c, i, j]
                    number = drawn[:, c, i, j] = inverted(logits, uniform[:, c, i, j], stays)
                    stack[0].put(j, c, embed(number))
            above = stack[0].row[:, :, stack[0].layer.reach :].clone()
        return drawn


class Stack:
    """What one layer has computed so far while an image is drawn: its inputs above, and in the row so far."""

    def __init__(self, layer: Layer, batch: int, height: int, width: int):
        weight, out, groups = layer.vertical.weight, layer.out, range(layer.groups)
        self.layer = layer
        self.above = weight.new_zeros(batch, weight.shape[1], height + layer.reach, width)
        self.row = weight.new_zeros(batch, weight.shape[1], width + layer.reach)
        self.over: tuple[Tensor, ...] = ()
        self.horizontal = [layer.horizontal.part(c, layer.groups) for c in groups]
        self.out = [out.part(c, layer.groups) for c in groups]
        self.gated = weight.new_zeros(batch, out.in_channels)
        self.pixel = weight.new_zeros(batch, out.out_channels)

    def blank_row(self) -> Tensor:
        """What stands above the first row."""
        return torch.zeros_like(self.above[:, :, 0])

    def rise(self, i: int, v: Tensor, label: Tensor | None) -> Tensor:
        """Row i of the vertical stack: its input (B, in, W) -> its output (B, p, W). Starts the row of the other."""
        reach = self.layer.reach
        self.above[:, :, i + reach] = v
        window = self.above[:, :, i : i + reach + 1]
        up, over = self.layer.rise(window, label)
        self.over = over[:, :, 0].chunk(self.layer.groups, dim=1)
        self.row.zero_()
        return up[:, :, 0]

    def put(self, j: int, c: int, maps: Tensor) -> None:
        """The input of group c at pixel j of the row, (B, in / groups)."""
        share = maps.shape[1]
        self.row[:, c * share : (c + 1) * share, j + self.layer.reach] = maps

    def across(self, j: int, c: int, h: Tensor | None) -> Tensor:
        """Group c at pixel j of the horizontal stack: the input's share (None for the first layer) -> the output's."""
        if h is not None:
            self.put(j, c, h)
        weight, bias = self.horizontal[c]
        window = self.row[:, :, j : j + self.layer.reach + 1].flatten(1)
        maps = torch.addmm(bias, window, weight) + self.over[c][:, :, j]
        share = self.gated.shape[1] // self.layer.groups
        here = slice(c * share, (c + 1) * share)
        a, b = maps.chunk(2, dim=1)
        self.gated[:, here] = a.tanh_().mul_(b.sigmoid_())
        weight, bias = self.out[c]
        out = torch.addmm(bias, self.gated, weight)
        self.pixel[:, here] = out if h is None else h + out
        return self.pixel[:, here]
