"""What every score asks of its features before it counts: a finite matrix with enough rows.

Sums are float64, sets of features are not: 50,000 x 2,048 are 400 MB in float32. So a set stays what it is, and the
scores convert some rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_gen.errors import UserError

AT_ONCE = 1024
"""Rows in float64 at a time: 16 MiB of 2,048 features."""


def as_rows(features: Tensor, name: str, at_least: int = 1) -> Tensor:
    """Features (N, D) of any float type as they are, detached, on their own device (on the CPU if it has no float64).

    Raises:
        TypeError: not a float tensor.
        ValueError: not two-dimensional, or some value is not finite.
        UserError: fewer than `at_least` rows.
    """
    if not isinstance(features, Tensor) or not features.is_floating_point():
        kind = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f"{name}: a float tensor (N, D) is needed, this is {kind}")
    if features.ndim != 2:
        raise ValueError(f"{name}: a tensor (N, D) is needed, this has shape {tuple(features.shape)}")
    if len(features) < at_least:
        raise UserError(f"{name}: {len(features)} images, this score needs at least {at_least}")
    rows = features.detach()
    if rows.device.type == "mps":
        rows = rows.cpu()
    # The smallest and the largest value are NaN where any value is: one reading, and no matrix of booleans.
    extremes = [part.aminmax() for part in rows.split(AT_ONCE) if part.numel()]
    if extremes and not bool(torch.stack([torch.stack(pair) for pair in extremes]).isfinite().all()):
        raise ValueError(f"{name}: some values are not finite (NaN or infinity)")
    return rows


def as_pair(a: Tensor, b: Tensor, names: tuple[str, str], at_least: int = 1) -> tuple[Tensor, Tensor]:
    """Two sets of features of one width, checked as by `as_rows`, on the device of the first.

    Raises:
        ValueError: their widths differ; and what `as_rows` raises.
    """
    rows_a, rows_b = as_rows(a, names[0], at_least), as_rows(b, names[1], at_least)
    if rows_a.shape[1] != rows_b.shape[1]:
        raise ValueError(f"{names[0]} have {rows_a.shape[1]} columns, {names[1]} have {rows_b.shape[1]}")
    return rows_a, rows_b.to(rows_a.device)


def in_float64(rows: Tensor) -> Iterator[Tensor]:
    """Rows (N, D), N >= 1, as float64, some after some, each (at most AT_ONCE, D)."""
    for part in rows.split(AT_ONCE):
        yield part.double()
