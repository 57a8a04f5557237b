"""Scores of image pairs, a restored or reconstructed image and the true one: PSNR, SSIM, LPIPS.

All are means over the images of a value of each image, never a value of the whole set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
import torchmetrics.functional.image as torchmetrics_image
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.metrics import weights as files

WINDOW = 11
"""Side of SSIM's Gaussian window, whose deviation is 1.5 pixels."""

VARIABLE = "LGEN_LPIPS_WEIGHTS"

_AT_ONCE = 32
"""Images in float64 at a time."""


def psnr(a: Tensor, b: Tensor, *, luma: bool = False, crop: int = 0) -> float:
    """Peak signal-to-noise ratio, 10 log10(255² / mean squared error), in decibels; the mean over the images.

    Args:
        a: (N, C, H, W) uint8, C 1 or 3.
        b: the same shape.
        luma: compare the luminance alone, as papers on super-resolution do: see `luminance`.
        crop: border in pixels that is left out on each side, in those papers the factor of enlargement.

    Returns:
        0 or more; infinite as soon as one pair is equal.

    Raises:
        TypeError, ValueError: not uint8 images of one shape.
        UserError: no images, or none left by `crop`; luma of grey images.
    """
    return _mean(
        torchmetrics_image.peak_signal_noise_ratio(x, y, data_range=255.0, dim=(1, 2, 3), reduction="none")
        for x, y in _pairs(a, b, luma, crop, 1)
    )


def ssim(a: Tensor, b: Tensor, *, luma: bool = False, crop: int = 0) -> float:
    """Structural similarity: Wang et al. 2004, "Image Quality Assessment", IEEE TIP 13(4), equation 13.

    The authors' constants: a Gaussian window of 11 pixels and deviation 1.5, K1 = 0.01, K2 = 0.03, L = 255, and only
    windows that lie inside the image. (torchmetrics' own mean also takes those that see the mirrored border.) Colour
    channels are scored one by one and averaged.

    Args:
        a: (N, C, H, W) uint8, C 1 or 3, at least 11x11 after `crop`.
        b: the same shape.
        luma: compare the luminance alone, as papers on super-resolution do: see `luminance`.
        crop: border in pixels that is left out on each side.

    Returns:
        In [-1, 1]; 1 is equal.

    Raises:
        TypeError, ValueError: not uint8 images of one shape.
        UserError: no images, or smaller than the window; luma of grey images.
    """
    return _mean(_ssim_of_each(x, y) for x, y in _pairs(a, b, luma, crop, WINDOW))


def luminance(images: Tensor) -> Tensor:
    """Luminance of RGB images (N, 3, H, W) uint8 by ITU-R BT.601, (N, 1, H, W) float64 from 16 (black) to 235 (white).

    As MATLAB's `rgb2ycbcr` weighs the channels, but not rounded to bytes.
    """
    weights = images.new_tensor((65.481, 128.553, 24.966), dtype=torch.float64).view(1, 3, 1, 1) / 255
    return 16 + (images.double() * weights).sum(dim=1, keepdim=True)


class LPIPS(nn.Module):
    """Learned perceptual distance: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features" (1801.03924).

    Equation 1 on the five stages of VGG16, version 0.1 of the published weights, without resizing: the numbers of the
    authors' code with `net="vgg"` and of torch-fidelity. Always in eval mode and without gradients, and in float32 also
    under autocast.

    Args:
        weights: The weights of the five linear layers, 7 kB, under the names that the authors gave them (torch-fidelity
            publishes them as weights-vgg16-lpips.pth). Left out: the file that LGEN_LPIPS_WEIGHTS names, else the copy
            that comes with torchmetrics.
        backbone: torchvision's vgg16-397923af.pth. Left out: the file that LGEN_VGG16_WEIGHTS names, else in torch's
            hub folder, else downloaded there (553 MB).

    Raises:
        UserError: weights that are not there, or are something else.
    """

    shift: Tensor
    scale: Tensor
    weights_digest: str
    """Those of the backbone's file and of the linear layers', with a plus between them."""

    def __init__(self, weights: str | None = None, backbone: str | None = None):
        super().__init__()
        from torchvision.models import vgg16

        linear_path, backbone_path = _linear_weights(weights), files.find("vgg16", backbone)
        with torch.device("meta"):  # draws no random numbers
            layers = vgg16().features
        try:
            state = files.read("vgg16", backbone_path)
            layers.load_state_dict(
                {
                    name.removeprefix("features."): value
                    for name, value in state.items()
                    if name.startswith("features.")
                },
                assign=True,
            )
        except Exception as reason:  # pickle, zip and shape errors have no common class
            raise UserError(
                f"weights of LPIPS: {backbone_path} is not torchvision's VGG16 ({_said(reason)})"
            ) from reason
        # Up to the last ReLU before each pooling: conv1_2, conv2_2, conv3_3, conv4_3, conv5_3.
        self.stages = nn.ModuleList(layers[start:end] for start, end in ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30)))
        widths = (64, 128, 256, 512, 512)
        try:
            state = torch.load(linear_path, map_location="cpu", weights_only=True)
            linear = [state[f"lin{i}.model.1.weight"].float().view(1, width, 1, 1) for i, width in enumerate(widths)]
        except Exception as reason:
            raise UserError(
                f"weights of LPIPS: {linear_path} does not hold its linear layers ({_said(reason)})"
            ) from reason
        for i, values in enumerate(linear):
            self.register_buffer(f"linear{i}", values)
        # Where the authors' code wants [-1, 1], we have 0..255.
        for name, values in (("shift", (-0.030, -0.088, -0.188)), ("scale", (0.458, 0.448, 0.450))):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.weights_digest = f"{files.file_digest(backbone_path)}+{files.file_digest(linear_path)}"
        self.requires_grad_(False)
        self.eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair, (N,) float32, 0 or more; images (N, C, H, W) uint8, C 1 (repeated to 3) or 3, at least
        16 pixels wide and high, on the device of the weights.

        Raises:
            TypeError, ValueError: not uint8 images of one shape.
            UserError: images too small for five stages.
        """
        _check(a, b)
        if min(a.shape[-2:]) < 16:
            raise UserError(f"LPIPS needs images of at least 16x16, not {a.shape[-2]}x{a.shape[-1]}")
        with torch.no_grad(), torch.autocast(a.device.type, enabled=False):
            x, y = self._scaled(a), self._scaled(b)
            distance = torch.zeros(len(a), device=a.device)
            for i, stage in enumerate(self.stages):
                x, y = stage(x), stage(y)
                difference = (_unit(x) - _unit(y)).square()
                distance = distance + (self.get_buffer(f"linear{i}") * difference).sum(dim=1).mean(dim=(1, 2))
        return distance

    def train(self, mode: bool = True) -> LPIPS:
        """Stays in eval mode, also as a part of a module that is trained."""
        return super().train(False)

    def _scaled(self, images: Tensor) -> Tensor:
        return ((images.float() / 127.5 - 1).expand(-1, 3, -1, -1) - self.shift) / self.scale


def _unit(x: Tensor) -> Tensor:
    """Each position's channels (N, C, H, W) scaled to length 1."""
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _ssim_of_each(x: Tensor, y: Tensor) -> Tensor:
    _, each_window = torchmetrics_image.structural_similarity_index_measure(
        x, y, sigma=1.5, data_range=255.0, k1=0.01, k2=0.03, reduction="none", return_full_image=True
    )
    inside = slice(WINDOW // 2, -(WINDOW // 2))
    return each_window[..., inside, inside].mean(dim=(1, 2, 3))


def _pairs(a: Tensor, b: Tensor, luma: bool, crop: int, smallest: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Some images after some, as what is compared: (at most _AT_ONCE, C, H, W) float64 in 0..255."""
    _check(a, b)
    height, width = (side - 2 * crop for side in a.shape[-2:])
    if crop < 0 or min(height, width) < smallest or not len(a):
        raise UserError(
            f"nothing to compare: {len(a)} images of {a.shape[-2]}x{a.shape[-1]} pixels, crop {crop}, "
            f"and at least {smallest}x{smallest} must be left"
        )
    if luma and a.shape[1] != 3:
        raise UserError("luma is a mixture of red, green and blue: these images have one channel")
    for x, y in zip(a.split(_AT_ONCE), b.to(a.device).split(_AT_ONCE), strict=True):
        x, y = (part[..., crop : crop + height, crop : crop + width] for part in (x, y))
        yield (luminance(x), luminance(y)) if luma else (x.double(), y.double())


def _mean(parts: Iterator[Tensor]) -> float:
    return float(torch.cat(list(parts)).mean())


def _check(a: Tensor, b: Tensor) -> None:
    for images in (a, b):
        if not isinstance(images, Tensor) or images.dtype != torch.uint8:
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(f"pairs of images are uint8 tensors, 0..255, not {kind}")
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] not in (1, 3):
        raise ValueError(f"pairs of images are (N, 1 or 3, H, W) and of one shape, not {(*a.shape,)} and {(*b.shape,)}")


def _linear_weights(weights: str | None) -> Path:
    for named, origin in ((weights, "weights"), (os.environ.get(VARIABLE), VARIABLE)):
        if named:
            path = Path(named).expanduser()
            if not path.is_file():
                raise UserError(f"weights of LPIPS: no file {named} ({origin})")
            return path
    path = Path(torchmetrics_image.__file__).with_name("lpips_models") / "vgg.pth"
    if not path.is_file():
        raise UserError(
            f"weights of LPIPS: this version of torchmetrics has no {path.name} in {path.parent}; "
            f"name torch-fidelity's weights-vgg16-lpips.pth with {VARIABLE}"
        )
    return path


def _said(reason: Exception) -> str:
    return f"{type(reason).__name__}: {(str(reason).splitlines() or ['no reason given'])[0]}"
