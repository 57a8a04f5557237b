"""What every score asks of its features before it counts: a finite matrix with enough rows."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gen.errors import UserError


def as_rows(features: Tensor, name: str, at_least: int = 1) -> Tensor:
    """Features (N, D) of any float type as float64, detached, on their own device (on the CPU if it has no float64).

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
    features = features.detach()
    rows = features.cpu().double() if features.device.type == "mps" else features.double()
    if not bool(torch.isfinite(rows).all()):
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
