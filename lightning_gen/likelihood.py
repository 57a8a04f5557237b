"""Explicit densities: log-likelihoods, divergences and their bounds, in nats, computed in float32.

Every function gives one number an image, (B,). Images are in [-1, 1]; a level of eight bits is `LEVEL` wide there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.errors import UserError

LEVEL = 2 / 255
"""Width of one of the 256 levels in [-1, 1]."""


def bernoulli(logits: Tensor, bits: Tensor) -> Tensor:
    """log p of `bits` (B, ...) in {0, 1} under independent coins. Kingma & Welling 2014, equation 11."""
    return -F.binary_cross_entropy_with_logits(logits.float(), bits.float(), reduction="none").flatten(1).sum(1)


def gaussian(mean: Tensor, sigma: float | Tensor, x: Tensor) -> Tensor:
    """log density of x (B, ...) under independent normals of one deviation. Kingma & Welling 2014, equation 12."""
    z = (x.float() - mean.float()) / sigma
    log_sigma = sigma.log() if isinstance(sigma, Tensor) else math.log(sigma)
    return -(z.square() / 2 + log_sigma + math.log(2 * math.pi) / 2).flatten(1).sum(1)


def posterior(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log density of z (B, D) under a normal with a diagonal covariance."""
    return -((z - mean).square() / log_variance.exp() + log_variance + math.log(2 * math.pi)).sum(1) / 2


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)), (B, D) -> (B,). Kingma & Welling 2014, appendix B."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


def importance_weighted(log_weights: Tensor) -> Tensor:
    """log of the mean of K weights p(x, z) / q(z | x), (K, B) -> (B,): for K = 1 the ELBO, and tighter with every K.

    Burda et al. 2016, equation 8.
    """
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def of_levels(log_density: Tensor, dimensions: int) -> Tensor:
    """log-probability of 8-bit images whose dequantised values have this log density: a lower bound in expectation.

    A level holds the integral of the density over its width, of which the value at a uniformly drawn place is an
    unbiased estimate. Theis et al. 2016, section 3.1.
    """
    return log_density + dimensions * math.log(LEVEL)


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """Nats of an image to bits for each of its `dimensions` (channels x height x width)."""
    return nats / (dimensions * math.log(2))


@dataclass(frozen=True)
class Intervals:
    """The 256 levels of [-1, 1], told apart by `count` intervals of equal size, and uniform within.

    A probability of intervals is so one of 8-bit images. Images are shown as the middles.

    Raises:
        UserError: `count` does not divide 256.
    """

    count: int

    def __post_init__(self) -> None:
        if 256 % self.count or self.count < 2:
            raise UserError(f"--model.levels {self.count}: a power of two from 2 to 256")

    def numbers(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] to intervals 0 .. count - 1, int64."""
        return (images * 127.5 + 127.5).round().long() // (256 // self.count)

    def middles(self, numbers: Tensor) -> Tensor:
        """The way back, as near as it comes."""
        size = 256 // self.count
        return (numbers * size + (size - 1) / 2) / 127.5 - 1

    def nats(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """-log p of 8-bit images, (B,), given logits (B, C, count, ...) of their intervals (B, C, ...)."""
        within = numbers[0].numel() * math.log(256 // self.count)
        return F.cross_entropy(logits.float().transpose(1, 2), numbers, reduction="none").flatten(1).sum(1) + within


class LogisticMixture(NamedTuple):
    """K logistic distributions of each pixel of C channels, cut into the 256 levels of [-1, 1].

    Salimans et al. 2017 (PixelCNN++), section 2.1; the means of later channels move linearly with the earlier values of
    the same pixel (section 2.2, equation 3).
    """

    logits: Tensor
    """(B, K, ...): of the mixture, which is one for all channels of a pixel."""
    means: Tensor
    """(B, C, K, ...)"""
    log_scales: Tensor
    """(B, C, K, ...)"""
    slopes: Tensor
    """(B, C (C - 1) / 2, K, ...) in [-1, 1]: of green on red, of blue on red, of blue on green."""

    @classmethod
    def parameters(cls, channels: int) -> int:
        """Numbers that one component takes."""
        return 1 + 2 * channels + channels * (channels - 1) // 2

    @classmethod
    def of(cls, outputs: Tensor, channels: int) -> LogisticMixture:
        """Read off the outputs of a network, (B, K * parameters, ...)."""
        parts = outputs.float() if outputs.dtype != torch.float64 else outputs
        parts = parts.unflatten(1, (cls.parameters(channels), -1))
        logits, means, scales, slopes = parts.split([1, channels, channels, parts.shape[1] - 1 - 2 * channels], dim=1)
        return cls(logits[:, 0], means, scales.clamp_min(-7), slopes.tanh())

    def mean(self, channel: int, earlier: Sequence[Tensor]) -> Tensor:
        """Means (B, K, ...) of a channel, given the values (B, ...) of those before it. Equation 3."""
        first = channel * (channel - 1) // 2
        mean = self.means[:, channel]
        for i, value in enumerate(earlier):
            mean = mean + self.slopes[:, first + i] * value.unsqueeze(1)
        return mean

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of levels x (B, C, ...) in [-1, 1], (B, ...). Equation 2; the outermost levels take the tails.

        s(a) - s(b) = s(a) s(-b) (1 - exp(b - a)) for the sigmoid s, so no difference of close numbers is taken.
        """
        total = self.logits.log_softmax(1)
        values = x.unbind(1)
        for channel, value in enumerate(values):
            here = value.unsqueeze(1)
            centred = here - self.mean(channel, values[:channel])
            inverse = torch.exp(-self.log_scales[:, channel])
            above = F.logsigmoid((centred + LEVEL / 2) * inverse)
            below = F.logsigmoid((LEVEL / 2 - centred) * inverse)
            within = torch.log(-torch.expm1(-LEVEL * inverse))
            lowest, highest = here < -1 + LEVEL / 4, here > 1 - LEVEL / 4
            total = total + torch.where(lowest, above, torch.where(highest, below, above + below + within))
        return total.logsumexp(1)

    def draw(self, uniform: Tensor) -> Tensor:
        """Levels (B, C, ...) in [-1, 1] from uniform numbers (B, 1 + C, ...): the first chooses the component, each
        other inverts a logistic distribution function; rounding to the nearest level is what cutting into levels is."""
        chances = self.logits.softmax(1).cumsum(1)
        chosen = (chances < uniform[:, :1]).sum(1, keepdim=True).clamp_max(chances.shape[1] - 1)
        values: list[Tensor] = []
        for channel in range(self.means.shape[1]):
            mean = self.mean(channel, values).gather(1, chosen)[:, 0]
            scale = self.log_scales[:, channel].gather(1, chosen)[:, 0].exp()
            drawn = mean + scale * torch.logit(uniform[:, 1 + channel].to(mean.dtype), eps=1e-9)
            levels = ((drawn.clamp(-1, 1) + 1) / LEVEL).round()
            values.append(levels * LEVEL - 1)
        return torch.stack(values, dim=1)
