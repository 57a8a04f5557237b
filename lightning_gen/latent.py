"""What one does in a latent space: walk between points, follow one dimension, add a direction, find an image's place.

For every model that has one: a `latent_dim`, and `latents` that are vectors (n, latent_dim). Images are made one at a
time from the same random state, so what a generator draws besides its latent does not change along a walk.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.module import GenerativeModule

CANDIDATES = 64
"""Latents among which a projection begins at the one whose image is nearest."""


def require(model: GenerativeModule, name: str) -> int:
    """The length of the model's latent vectors.

    Raises:
        UserError: it has none: what it draws from is noise for each pixel, codes, or a picture.
    """
    dim = getattr(model, "latent_dim", None)
    if dim is None or len(model.image_shape) != 3 or model.image_shape[1] == 1:
        raise UserError(f"{name} has no latent space of images")
    return int(dim)


@torch.no_grad()
def images_of(
    model: GenerativeModule, latents: Tensor, label: int | None = None, seed: int = 0, **options: Any
) -> Tensor:
    """The image of each latent (n, latent_dim), (n, *image_shape) in [-1, 1], through the averaged weights.

    Args:
        model: Which has a latent space.
        latents: Where in it.
        label: Class of all images; of a conditional model the one that `seed` draws first, where it is left out.
        seed: Names what is drawn besides the latents.
        options: Of the model's `generate`.
    """
    if label is None and model.num_classes:
        drawn = model.conditions(1, seed=seed, start=0)
        assert drawn is not None
        label = int(drawn["label"][0])
    condition = None if label is None else {"label": torch.tensor([label], device=model.device)}
    made = []
    with model.asked():
        for latent in latents.to(model.device).split(1):
            torch.manual_seed(seed)
            made.append(model.generate(latent, condition, **options))
    return torch.cat(made)


@torch.no_grad()
def latents_of(model: GenerativeModule, images: Tensor) -> Tensor:
    """Where the model's encoder puts images (n, *image_shape) in [-1, 1].

    Raises:
        UserError: it has no encoder.
    """
    with model.asked():
        return model.encode(images.to(model.device))


def linear(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The straight line from a (t = 0) to b (t = 1)."""
    return a + t * (b - a)


def spherical(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The great arc from a to b, lengths in between: it keeps to where a normal distribution has its mass.

    Shoemake 1985; White 2016, https://arxiv.org/abs/1609.04468, section 2.1. Parallel vectors: the straight line.
    """
    cosine = torch.dot(a, b) / (a.norm() * b.norm()).clamp_min(1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    if torch.sin(angle) < 1e-4:
        return linear(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def walk(ends: Tensor, steps: int, between: Callable[[Tensor, Tensor, float], Tensor]) -> Tensor:
    """From each of `ends` (k, D) to the next in `steps` steps, every one of them met: ((k - 1) * steps + 1, D)."""
    path = [between(a, b, step / steps) for a, b in itertools.pairwise(ends) for step in range(steps)]
    return torch.stack([*path, ends[-1]])


def traverse(model: GenerativeModule, at: Tensor, dimensions: list[int], steps: int, reach: float) -> Tensor:
    """One row of latents for each of `dimensions`, (len, steps, D): the latent `at` (D,), with that one entry moved
    from -`reach` to `reach` deviations about the mean that it has among the model's own latents."""
    own = model.latents(1000, seed=0, start=0)
    mean, deviation = own.mean(0), own.std(0)
    rows = at.cpu().expand(len(dimensions), steps, -1).clone()
    for row, dimension in zip(rows, dimensions, strict=True):
        row[:, dimension] = mean[dimension] + torch.linspace(-reach, reach, steps) * deviation[dimension]
    return rows


def direction(model: GenerativeModule, with_it: Tensor, without: Tensor) -> Tensor:
    """From images without something to those with it, (D,): the difference of their mean latents.

    Radford et al. 2016, section 6.3.2; Larsen et al. 2016, https://arxiv.org/abs/1512.09300, section 4.2.
    """
    return latents_of(model, with_it).mean(0) - latents_of(model, without).mean(0)


def project(
    model: GenerativeModule,
    targets: Tensor,
    *,
    steps: int = 200,
    lr: float = 0.05,
    seed: int = 0,
    label: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Latents (n, D) whose images come near `targets` (n, *image_shape) in [-1, 1], and the squared errors (n,).

    Gradient descent (Adam) on the squared error of pixels from the encoder's answer, or, without an encoder, from the
    best of 64 drawn latents (Zhu et al. 2016, https://arxiv.org/abs/1609.03552, section 3). The best latent met counts.
    """
    targets = targets.to(model.device)
    condition = None if label is None else {"label": torch.full((len(targets),), label, device=model.device)}
    frozen = {parameter: parameter.requires_grad for parameter in model.parameters()}
    with model.asked():
        start = _start(model, targets, seed, label)
        best, least = start.clone(), torch.full((len(targets),), float("inf"), device=model.device)
        latents = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([latents], lr)
        try:
            for parameter in frozen:
                parameter.requires_grad_(False)
            for step in range(steps + 1):
                torch.manual_seed(seed)
                with torch.enable_grad():
                    errors = (model.generate(latents, condition) - targets).square().flatten(1).mean(1)
                    gradient = torch.autograd.grad(errors.sum(), latents)[0] if step < steps else None
                better = errors.detach() < least
                best[better], least[better] = latents.detach()[better], errors.detach()[better]
                if gradient is not None:
                    latents.grad = gradient
                    optimizer.step()
        finally:
            for parameter, wanted in frozen.items():
                parameter.requires_grad_(wanted)
    return best, least


def _start(model: GenerativeModule, targets: Tensor, seed: int, label: int | None) -> Tensor:
    if type(model).encode is not GenerativeModule.encode:
        return latents_of(model, targets)
    candidates = model.latents(CANDIDATES, seed=seed, start=0).to(model.device)
    seen = images_of(model, candidates, label, seed)
    return candidates[torch.cdist(targets.flatten(1), seen.flatten(1)).argmin(1)]


def principal(latents: Tensor, count: int = 2) -> tuple[Tensor, Tensor]:
    """Latents (n, D) along the `count` directions in which they vary most, (n, count), and each one's share of the
    variance. Pearson 1901. The sign of each direction makes its largest entry positive."""
    centred = (latents - latents.mean(0)).double()
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * largest.sign()
    share = values.square() / values.square().sum().clamp_min(1e-30)
    return centred @ directions[:count].T, share[:count]
