"""Fréchet distance between two sets of features: FID when the features are Inception's.

Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule" (arXiv:1706.08500), equation 6; the distance of two
Gaussians is due to Dowson & Landau 1982.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.checks import as_rows


@dataclass
class FeatureStatistics:
    """Count, sum and sum of outer products of features, all that the Fréchet distance needs of a set.

    Plain sums in float64: they add up, so parts of a set (batches, processes) give the statistics of the whole by `+`
    or by an all-reduce of the three fields.
    """

    count: int
    total: Tensor
    """Sum of the features, (D,) float64."""
    outer: Tensor
    """Sum of x xᵀ, (D, D) float64."""

    @classmethod
    def empty(cls, dim: int, device: torch.device | str = "cpu") -> FeatureStatistics:
        """The statistics of no features of width `dim`."""
        zeros = torch.zeros(dim, dtype=torch.float64, device=device)
        return cls(0, zeros, zeros.outer(zeros))

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """The statistics of features (N, D), N >= 1."""
        rows = as_rows(features, "features")
        return cls(len(rows), rows.sum(0), rows.T @ rows)

    def update(self, features: Tensor) -> None:
        """Add features (N, D) of the same width, any N, on any device."""
        if len(features) == 0:  # a process may be left without images
            return
        part = FeatureStatistics.of(features)
        if part.total.shape != self.total.shape:
            raise ValueError(f"features are {len(part.total)} wide, these statistics {len(self.total)}")
        self.count += part.count
        self.total += part.total.to(self.total.device)
        self.outer += part.outer.to(self.outer.device)

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        if self.total.shape != other.total.shape:
            raise ValueError(f"statistics of {len(self.total)} and of {len(other.total)} features cannot be added")
        device = self.total.device
        return FeatureStatistics(
            self.count + other.count, self.total + other.total.to(device), self.outer + other.outer.to(device)
        )

    @property
    def mean(self) -> Tensor:
        """Mean of the features, (D,) float64.

        Raises:
            UserError: no image was counted.
        """
        if self.count < 1:
            raise UserError("a mean of features needs at least one image")
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (divisor N - 1, as in the papers' code), (D, D) float64.

        Raises:
            UserError: fewer than two images were counted.
        """
        if self.count < 2:
            raise UserError(f"a covariance of features needs at least 2 images, {self.count} given")
        return (self.outer - self.count * self.mean.outer(self.mean)) / (self.count - 1)


def frechet_distance_from_statistics(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|m_a - m_b|² + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^½), on the CPU in float64.

    The last trace is the sum of the roots of the eigenvalues of S_a^½ S_b S_a^½, which is symmetric and has the
    eigenvalues of S_a S_b: six times faster than the unsymmetric form, and never complex. Near-identical sets can
    give a value below zero by rounding.

    Raises:
        ValueError: the widths differ.
        UserError: a set of fewer than two images.
    """
    if a.total.shape != b.total.shape:
        raise ValueError(f"statistics of {len(a.total)} and of {len(b.total)} features cannot be compared")
    covariance_a, covariance_b = a.covariance.cpu(), b.covariance.cpu()
    shift = a.mean.cpu() - b.mean.cpu()
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # fewer images than features: rounding makes -1e-17s
    product = root @ covariance_b @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    return float(shift @ shift + covariance_a.trace() + covariance_b.trace() - 2 * cross)


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance between two sets of features, (N, D) and (M, D) float, in squared feature units; 0 is equal.

    Raises:
        TypeError, ValueError: not float matrices of one width, or values that are not finite.
        UserError: a set of fewer than two images.
    """
    return frechet_distance_from_statistics(FeatureStatistics.of(features_a), FeatureStatistics.of(features_b))
