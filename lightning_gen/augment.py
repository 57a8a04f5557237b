"""Augmentation between the images and the discriminator, for small data: DiffAugment and ADA.

Real and fake images pass through the same random transformations, differentiable ones, so the generator is taught
through them and does not learn to draw them. Every random number comes from `rand`, which makes it a function of
(seed, images seen); everything can be differentiated twice, because gradient penalties go through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
import torch.nn.functional as F
from jsonargparse.typing import ClosedUnitInterval, PositiveFloat
from torch import Tensor

from lightning_gen.errors import UserError

if TYPE_CHECKING:
    from lightning_gen.module import GenerativeModule

Rand = Callable[..., Tensor]
"""`rand(n, *shape)`: uniform [0, 1) noise of the run, this rank's rows."""


class Augment(Protocol):
    """What a model needs of an augmentation."""

    strength: float
    """How much it does, 0 to 1; saved with the weights."""

    def __call__(self, images: Tensor, rand: Rand) -> Tensor:
        """Images (B, C, H, W) in about [-1, 1] to the same shape, differentiable, each with transformations of its
        own."""

    def adapt(self, sign: Tensor, images: int) -> None:
        """`sign` is the mean sign of D on real images in the latest step, which saw `images` of them."""


Part = Literal["color", "translation", "cutout"]
"""Of DiffAugment, as its published code calls them."""
PARTS: tuple[Part, ...] = ("color", "translation", "cutout")


@dataclass(frozen=True)
class AugmentOptions:
    """What the discriminator sees images through.

    Args:
        kind: ``none``; ``diffaugment`` (Zhao et al. 2020: colour, translation, cutout); ``ada`` (Karras et al. 2020:
            a longer list, applied with a probability that follows the discriminator's overfitting).
        policy: For diffaugment, what of it is done. Its paper has ``translation`` and ``cutout`` for BigGAN on
            CIFAR-10.
        target: For ada, the mean sign of D on real images that is aimed at.
        speed_kimg: For ada, thousands of images over which the probability can go from 0 to 1; ``inf`` keeps it at
            `start`.
        start: For ada, the probability at the start of the run.
    """

    kind: Literal["none", "diffaugment", "ada"] = "none"
    policy: tuple[Part, ...] = PARTS
    target: ClosedUnitInterval = 0.6
    speed_kimg: PositiveFloat = 500.0
    start: ClosedUnitInterval = 0.0

    def check(self, model: GenerativeModule) -> None:
        """What can be known before the first step.

        Raises:
            UserError: the model has one loss, so no discriminator that would see augmented images, or makes points,
                which cutout would leave nothing of; a policy of nothing; what a model sets itself.
        """
        if self.kind == "none":
            return
        if self.kind == "diffaugment" and not self.policy:
            raise UserError("--augment.policy names nothing: --augment.kind none")
        if model.automatic_optimization:
            raise UserError(f"{type(model).__name__} has no discriminator to augment images for: --augment.kind none")
        if tuple(model.image_shape[1:]) == (1, 1):
            raise UserError("points are no images, whose places and colours could be changed: --augment.kind none")
        if self.kind == "ada" and model.sets_ada:
            for field in fields(self):
                if field.name in ("target", "speed_kimg", "start") and getattr(self, field.name) != field.default:
                    raise UserError(
                        f"--augment.{field.name} means nothing to {type(model).__name__}, which sets the probability "
                        "by its own schedule: leave it out"
                    )

    def make(self) -> Augment | None:
        """The augmentation, None for ``none``."""
        if self.kind == "diffaugment":
            return DiffAugment(self.policy)
        return ADA(self.target, self.speed_kimg, self.start) if self.kind == "ada" else None


class DiffAugment:
    """Brightness, saturation, contrast, translation and cutout, all of them on every image.

    Zhao et al. 2020, Differentiable Augmentation for Data-Efficient GAN Training, https://arxiv.org/abs/2006.10738,
    with the ranges of its section 4 ("Color + Translation + Cutout"). What moves in from outside, and what is cut out,
    is 0, the middle grey. At `strength` 1 the ranges are the paper's; a smaller one shrinks all of them, 0 to nothing.

    Args:
        policy: Which of the three; brightness, saturation and contrast are the colour.
    """

    def __init__(self, policy: Sequence[Part] = PARTS) -> None:
        self.policy = policy
        self.strength = 1.0

    def __call__(self, images: Tensor, rand: Rand) -> Tensor:
        """As `Augment`; seven random numbers an image."""
        height, width = images.shape[-2:]
        u = rand(len(images), 7)
        with torch.autocast(images.device.type, enabled=False):
            x = images.float()
            if "color" in self.policy:
                bright, saturated, contrast = (self.strength * (u[:, :3] - 0.5)).view(-1, 3, 1, 1, 1).unbind(1)
                x = x + bright
                x = torch.lerp(x.mean(1, keepdim=True), x, 1 + 2 * saturated)
                x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, 1 + contrast)
            if "translation" in self.policy:
                x = moved(x, self._steps(u[:, 3], height), self._steps(u[:, 4], width))
            if "cutout" in self.policy:
                rows, columns = self._hole(u[:, 5], height), self._hole(u[:, 6], width)
                x = x * ~(rows.view(-1, 1, height, 1) & columns.view(-1, 1, 1, width))
        return x.to(images.dtype)

    def _steps(self, u: Tensor, size: int) -> Tensor:
        """Whole pixels, uniform in up to an eighth of the side, (B,)."""
        reach = int(self.strength * size / 8 + 0.5)
        return (u * (2 * reach + 1)).floor().long() - reach

    def _hole(self, u: Tensor, size: int) -> Tensor:
        """Which rows (or columns) the cut-out square of half the side covers, (B, size). Its centre is anywhere, so it
        may stand over the border."""
        side = int(self.strength * size / 2 + 0.5)
        first = (u * (size + 1 - side % 2)).floor().long() - side // 2
        into = torch.arange(size, device=u.device) - first.view(-1, 1)
        return (into >= 0) & (into < side)

    def adapt(self, sign: Tensor, images: int) -> None:
        """It does not adapt."""


class ADA:
    """Adaptive discriminator augmentation: each transformation happens with a probability that follows overfitting.

    Karras et al. 2020, Training Generative Adversarial Networks with Limited Data, https://arxiv.org/abs/2006.06676,
    appendix B: pixel blitting (x-flip, quarter turns, whole-pixel translation), general geometry (isotropic scaling,
    rotation, anisotropic scaling, rotation, fractional translation) and colour (brightness, contrast, luma flip, hue,
    saturation), with the paper's ranges: its "bgc", which it recommends. Image-space filtering and corruption are not
    in. `strength` is the paper's p.

    Differences from the paper: p moves with every step, by the sign of that step's batch, where the paper takes every
    four minibatches together; the signs of a Wasserstein critic are about the middle between real and fake images
    (`GenerativeModule.undecided`). Images are resampled once, bicubically, where the paper enlarges them by a wavelet
    filter, samples bilinearly and shrinks them again; the border is mirrored with its edge pixels; luma is the mean of
    any number of channels, and hue is turned where there are three.

    Args:
        target: The mean sign of D(real) that is aimed at (section 3.1).
        speed_kimg: Thousands of images in which p can go from 0 to 1.
        start: p at the start.
    """

    def __init__(self, target: float = 0.6, speed_kimg: float = 500.0, start: float = 0.0):
        self.target = target
        self.speed = speed_kimg * 1000
        # a tensor on the device of what it is compared with: a Python float would cost a synchronisation each step
        self._p = torch.tensor(float(start))

    @property
    def strength(self) -> float:
        """The probability of each transformation, the paper's p."""
        return float(self._p)

    @strength.setter
    def strength(self, p: float) -> None:
        self._p = torch.tensor(float(p), device=self._p.device)

    def adapt(self, sign: Tensor, images: int) -> None:
        """p goes up while D is surer of real images than `target`, else down, by the same step (section 3.1)."""
        self._p = (self._p.to(sign.device) + torch.sign(sign.float() - self.target) * (images / self.speed)).clamp(0, 1)

    def __call__(self, images: Tensor, rand: Rand) -> Tensor:
        """As `Augment`; 28 random numbers an image."""
        self._p = self._p.to(images.device)
        u = iter(rand(len(images), 28).unbind(1))
        with torch.autocast(images.device.type, enabled=False):
            x = self._colour(self._geometry(images.float(), u), u)
        return x.to(images.dtype)

    def _geometry(self, images: Tensor, u: Iterator[Tensor]) -> Tensor:
        """Appendix B, figure 11, up to "fractional translation": one affine map of the plane for each image."""
        height, width = images.shape[-2:]
        p = self._p
        seldom = 1 - (1 - p).sqrt()  # of either rotation, so that one of the two happens with p
        # `inverse` maps a pixel of the result to where it comes from: each further step stands on its right
        inverse = eye = torch.eye(3, device=images.device).expand(len(images), 3, 3)
        # pixel blitting
        flip = _either(p, u, 1 - 2 * _integer(next(u), 2), 1)
        inverse = _after(inverse, _scaling(flip, torch.ones_like(flip)))
        inverse = _after(inverse, _rotation(_either(p, u, -math.pi / 2 * _integer(next(u), 4), 0)))
        happens, across, down = next(u) < p, next(u) / 4 - 1 / 8, next(u) / 4 - 1 / 8
        step = torch.stack([(across * width).round(), (down * height).round()]) * happens
        inverse = _after(inverse, _translation(*-step))
        # general geometry
        scale = _either(p, u, _lognormal(next(u), 0.2), 1)
        inverse = _after(inverse, _scaling(1 / scale, 1 / scale))
        inverse = _after(inverse, _rotation(_either(seldom, u, _angle(next(u)), 0)))
        scale = _either(p, u, _lognormal(next(u), 0.2), 1)
        inverse = _after(inverse, _scaling(1 / scale, scale))
        inverse = _after(inverse, _rotation(_either(seldom, u, _angle(next(u)), 0)))
        happens, across, down = next(u) < p, _normal(next(u)) / 8, _normal(next(u)) / 8
        inverse = _after(inverse, _translation(*-torch.stack([across * width, down * height]) * happens))
        # images that nothing happened to pass as they are
        touched = (inverse != eye).flatten(1).any(1).view(-1, 1, 1, 1)
        return torch.where(touched, resample(images, inverse), images)

    def _colour(self, images: Tensor, u: Iterator[Tensor]) -> Tensor:
        """Appendix B, figure 11, "brightness" to "saturation".

        The paper multiplies 4x4 matrices. All five steps treat a pixel's luma (its component along grey) and its chroma
        (the rest) apart, so this is their product.
        """
        p = self._p
        brightness = _either(p, u, 0.2 * _normal(next(u)), 0)
        contrast = _either(p, u, _lognormal(next(u), 0.5), 1)
        flip = _either(p, u, 1 - 2 * _integer(next(u), 2), 1)
        hue = _either(p, u, _angle(next(u)), 0)
        saturation = _either(p, u, _lognormal(next(u), 1.0), 1)
        luma = images.mean(1, keepdim=True)
        chroma = images - luma
        if images.shape[1] == 3:
            # a turn about the grey axis v: r cos + (v x r) sin
            aside = (chroma.roll(1, 1) - chroma.roll(-1, 1)) / math.sqrt(3)
            chroma = chroma * hue.cos().view(-1, 1, 1, 1) + aside * hue.sin().view(-1, 1, 1, 1)
        luma = (luma + brightness.view(-1, 1, 1, 1)) * (contrast * flip).view(-1, 1, 1, 1)
        coloured = luma + chroma * (contrast * saturation).view(-1, 1, 1, 1)
        touched = (brightness != 0) | (contrast != 1) | (flip != 1) | (hue != 0) | (saturation != 1)
        return torch.where(touched.view(-1, 1, 1, 1), coloured, images)


def moved(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image by its own number of whole pixels, (B,) int64 each; zeros come in."""
    for dim, steps in ((2, down), (3, right)):
        size = images.shape[dim]
        shape = [len(images), 1, 1, 1]
        shape[dim] = size
        source = torch.arange(size, device=images.device) - steps.view(-1, 1)
        inside = ((source >= 0) & (source < size)).view(shape)
        images = images.gather(dim, source.clamp(0, size - 1).view(shape).expand_as(images)) * inside
    return images


def resample(images: Tensor, inverse: Tensor) -> Tensor:
    """Images under affine maps of the plane, the border mirrored.

    Args:
        images: (B, C, H, W) float32.
        inverse: (B, 3, 3), from a position in the result to one in the image: (x, y, 1) in pixels from the centre, x to
            the right and y down.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = (torch.arange(height, device=images.device) - (height - 1) / 2).view(-1, 1)
    rows = inverse[:, :2].unflatten(2, (3, 1, 1))  # (B, 2, 3, 1, 1)
    where_from = rows[:, :, 0] * x + rows[:, :, 1] * y + rows[:, :, 2]  # (B, 2, H, W)
    grid = torch.stack([where_from[:, 0] * (2 / width), where_from[:, 1] * (2 / height)], dim=-1)
    return _Sample.apply(images, grid)


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


class _Sample(torch.autograd.Function):
    """`grid_sample` as the linear map of images that it is: its derivative is the adjoint map, whose derivative is the
    map again. PyTorch's own has a second derivative only in late versions and not on every device."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return _sample(images, grid)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Adjoint.apply(slopes[0], grid, ctx.shape), None


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slope: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        with torch.enable_grad():
            images = slope.new_zeros(shape).requires_grad_()
            (spread,) = torch.autograd.grad(_sample(images, grid), images, slope.detach())
        return spread

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(slopes[0], grid), None, None


def _either(p: Tensor, u: Iterator[Tensor], value: Tensor, otherwise: float) -> Tensor:
    """`value` with probability p, else what changes nothing, (B,)."""
    return torch.where(next(u) < p, value, otherwise)


def _integer(u: Tensor, below: int) -> Tensor:
    return (u * below).floor()


def _angle(u: Tensor) -> Tensor:
    return (2 * u - 1) * math.pi


def _normal(u: Tensor) -> Tensor:
    return torch.erfinv((2 * u - 1).clamp(-1 + 1e-6, 1 - 1e-6)) * math.sqrt(2)


def _lognormal(u: Tensor, octaves: float) -> Tensor:
    return torch.exp2(octaves * _normal(u))


def _after(a: Tensor, b: Tensor) -> Tensor:
    """Matrix products, always in full float32: with reduced matmul precision whole pixels would not stay whole."""
    return (a.unsqueeze(3) * b.unsqueeze(1)).sum(2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    zero = torch.zeros_like(x)
    return _affine(x, zero, zero, zero, y, zero)


def _rotation(angle: Tensor) -> Tensor:
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _affine(cos, -sin, zero, sin, cos, zero)


def _translation(x: Tensor, y: Tensor) -> Tensor:
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _affine(one, zero, x, zero, one, y)


def _affine(*rows: Tensor) -> Tensor:
    zero, one = torch.zeros_like(rows[0]), torch.ones_like(rows[0])
    return torch.stack([*rows, zero, zero, one], dim=1).view(-1, 3, 3)
