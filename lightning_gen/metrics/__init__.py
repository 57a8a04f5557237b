"""Scores of generated images: pictures to features (extractors), features to numbers (pure functions), and protocol.

The names below are found when they are first used: importing this package imports no torch. Functions take features;
classes are torchmetrics that take images.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_gen.metrics.frechet import frechet_distance
    from lightning_gen.metrics.inception import inception_score
    from lightning_gen.metrics.kernel import kernel_distance
    from lightning_gen.metrics.neighbours import prdc
    from lightning_gen.metrics.paired import LPIPS, psnr, ssim
    from lightning_gen.metrics.torchmetric import PRDC, FrechetDistance, InceptionScore, KernelDistance

__all__ = [
    "LPIPS",
    "PRDC",
    "FrechetDistance",
    "InceptionScore",
    "KernelDistance",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "prdc",
    "psnr",
    "ssim",
]

_HOMES = {
    "FrechetDistance": "torchmetric",
    "InceptionScore": "torchmetric",
    "KernelDistance": "torchmetric",
    "LPIPS": "paired",
    "PRDC": "torchmetric",
    "frechet_distance": "frechet",
    "inception_score": "inception",  # a file of the function's own name would hide the function once imported
    "kernel_distance": "kernel",
    "prdc": "neighbours",
    "psnr": "paired",
    "ssim": "paired",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
