"""How numbers are written in tables: three significant digits, a mean with its deviation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def number(value: float, decimals: int | None = None) -> str:
    """Three significant digits, thousands apart; very small ones with an exponent; `nan` and `inf` as they are."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.2e}"
    return f"{value:,.{_decimals(value) if decimals is None else decimals}f}"


def mean_and_deviation(values: Sequence[float]) -> str:
    """`16.77 ± 0.04`: the mean shows as many decimals as the deviation's first digit. One value stands alone."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return number(mean)
    deviation = statistics.stdev(values)
    if abs(mean) < 1e-4:
        return f"{mean:.2e} ± {deviation:.0e}"
    decimals = _decimals(mean)
    if deviation > 0:
        decimals = min(max(decimals, -math.floor(math.log10(deviation))), decimals + 2)
    return f"{number(mean, decimals)} ± {deviation:.{decimals}f}"


def count(value: float) -> str:
    """Of parameters: `3.57M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def _decimals(value: float) -> int:
    """Behind the point, so that three digits are significant."""
    return max(0, 2 - math.floor(math.log10(abs(value))))
