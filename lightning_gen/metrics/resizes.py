"""Ways from a picture's size to a network's, by name: the resize is a part of a score's definition.

Each takes pictures (N, 3, H, W) uint8 and a side S and gives (N, 3, S, S) float32 in 0..255 on the same device,
nothing rounded; pictures of that size already keep their values. What differs is in Parmar et al. 2022, "On Aliased
Resizing and Surprising Subtleties in GAN Evaluation" (arXiv:2104.11222).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lightning_gen.errors import UserError, nearest


def tf1_bilinear(images: Tensor, size: int) -> Tensor:
    """TensorFlow 1's: between the two nearest pixels, corners aligned by their indices, and no antialiasing. The papers
    that report FID on Inception mean this one; torch-fidelity's function gives its bits."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x  # two seconds

    resized: Tensor = interpolate_bilinear_2d_like_tensorflow1x(images.float(), (size, size), align_corners=False)
    return resized


def clean(images: Tensor, size: int) -> Tensor:
    """clean-fid's (0.1.35): Pillow's bicubic filter, as wide as the reduction, on each channel as floats, clipped.

    Done on the CPU whatever the device, some 4 ms a picture. torch's antialiased bicubic means the same and differs by
    up to 0.005 grey levels; the number is to be clean-fid's.
    """
    planes = images.cpu().numpy().astype(np.float32).reshape(-1, *images.shape[-2:])
    resized = np.empty((len(planes), size, size), np.float32)
    for plane, made in zip(planes, resized, strict=True):
        made[:] = np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC))
    resized.clip(0, 255, out=resized)  # bicubic overshoots at edges
    return torch.from_numpy(resized).view(*images.shape[:2], size, size).to(images.device)


def torchmetrics(images: Tensor, size: int) -> Tensor:
    """The default of torchmetrics' FrechetInceptionDistance since 1.8 (`antialias=True`): an antialiased triangle."""
    return F.interpolate(images.float(), (size, size), mode="bilinear", align_corners=False, antialias=True)


RESIZES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "tf1-bilinear": tf1_bilinear,
    "clean": clean,
    "torchmetrics": torchmetrics,
}


def check_resize(name: str, offered: Iterable[str] = tuple(RESIZES), of: str = "") -> str:
    """`name`, if it is among `offered`.

    Raises:
        UserError: it is not; `of` says in the message who offers them, e.g. `extractor tiny`.
    """
    offered = tuple(offered)
    if name not in offered:
        whose = f" of {of}" if of else ""
        raise UserError(f"unknown resize {name!r}{whose}{nearest(name, offered)} (there is {', '.join(offered)})")
    return name
