"""Explicit densities: log-likelihoods, divergences and their bounds, in nats, computed in float32.

Every function gives one number an image, (B,). Images are in [-1, 1]; a level of eight bits is `LEVEL` wide there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

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
