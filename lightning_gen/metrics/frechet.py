"""Fréchet distance between two sets of features: FID when the features are Inception's.

Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule" (arXiv:1706.08500), equation 6; the distance of two
Gaussians is due to Dowson & Landau 1982.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.checks import as_rows, in_float64


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
        statistics = cls.empty(rows.shape[1], rows.device)
        statistics._add(rows)
        return statistics

    def update(self, features: Tensor) -> None:
        """Add features (N, D) of the same width, any N, on any device."""
        if len(features) == 0:  # a process may be left without images
            return
        rows = as_rows(features, "features")
        if rows.shape[1:] != self.total.shape:
            raise ValueError(f"features are {rows.shape[1]} wide, these statistics {len(self.total)}")
        if rows.device == self.total.device:
            self._add(rows)
        else:  # multiplied where the features are, then brought here
            part = FeatureStatistics.of(rows)
            self.count += part.count
            self.total += part.total.to(self.total.device)
            self.outer += part.outer.to(self.outer.device)

    def _add(self, rows: Tensor) -> None:
        """Add checked rows that are on the device of the sums."""
        for part in in_float64(rows):
            self.count += len(part)
            self.total += part.sum(0)
            self.outer.addmm_(part.T, part)

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
        mean = self.mean
        return torch.addr(self.outer, mean, mean, alpha=-self.count).div_(self.count - 1)  # one matrix in memory


def frechet_distance_from_statistics(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|m_a - m_b|² + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^½), on the CPU in float64.

    The last trace is the sum of the roots of the eigenvalues of S_a^½ S_b S_a^½, which is symmetric and has the
    eigenvalues of S_a S_b: six times faster than the unsymmetric form, and never complex. Near-identical sets can
    give a value below zero by rounding.

    Raises:
        ValueError: the widths differ.
        UserError: a set of fewer than two images.
    """
    return _Half.of(a.mean, a.covariance).distance(b.mean, b.covariance)


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance between two sets of features, (N, D) and (M, D) float, in squared feature units; 0 is equal.

    Raises:
        TypeError, ValueError: not float matrices of one width, or values that are not finite.
        UserError: a set of fewer than two images.
    """
    half = _Half.of(*_moments(features_a))
    return half.distance(*_moments(features_b))


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of features; the sums that they come from are gone when it returns."""
    statistics = FeatureStatistics.of(features)
    return statistics.mean, statistics.covariance


@dataclass
class _Half:
    """What the distance wants of the first set: one matrix, where making it takes four (33 MB each of 2,048²)."""

    mean: Tensor
    """(D,) float64, on the CPU."""
    trace: Tensor
    """tr(S)."""
    root: Tensor
    """S^½, (D, D)."""

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor) -> _Half:
        """Decompose the covariance."""
        covariance = covariance.cpu()
        values, vectors = torch.linalg.eigh(covariance)
        # fewer images than features: rounding makes eigenvalues of -1e-17
        root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return cls(mean.cpu(), covariance.trace(), root)

    def distance(self, mean: Tensor, covariance: Tensor) -> float:
        """The distance to a second set, whose covariance is overwritten where it is on the CPU."""
        if self.mean.shape != mean.shape:
            raise ValueError(f"statistics of {len(self.mean)} and of {len(mean)} features cannot be compared")
        covariance, shift = covariance.cpu(), self.mean - mean.cpu()
        traces = self.trace + covariance.trace()
        product = self.root @ covariance
        torch.matmul(product, self.root, out=covariance)
        symmetric = product.copy_(covariance.T).add_(covariance).div_(2)
        cross = torch.linalg.eigvalsh(symmetric).clamp(min=0).sqrt().sum()
        return float(shift @ shift + traces - 2 * cross)
