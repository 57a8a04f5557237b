"""From a picture of `shapes` back to its factors, and whether it is such a picture at all. No network takes part.

Ground and ink are told apart by colour; the moments of what is inked give place, size and rotation for each kind of
shape; a few Gauss-Newton steps refine the two kinds that fit best, and the better one is the answer. A picture is on
the manifold when both its colours are near one of the palette and the fit leaves less over than the limit of its shape.

The limits are set by `benchmarks/shapes/thresholds.py` from real images alone; the rates are in its README.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.data.shapes import BACKGROUNDS, CLASS_NAMES, COLOURS, SHAPES, Factors, coverage

LIMITS = {"circle": 0.051, "square": 0.053, "triangle": 0.054, "star": 0.061, "cross": 0.058, "ring": 0.06}
"""Largest residual of an image on the manifold, by its shape."""
COLOUR_LIMIT = 40.0
"""Largest distance in RGB of ink and ground from the palette; the nearest two inks are 88 apart."""
SAMPLE = 2000
"""How many images `score` looks at: with more of them, more modes would be hit by chance."""

_SIDE = 32  # the resolution that images are judged at
_FOLDS = (0, 4, 3, 5, 4, 0)  # by how many turns each of SHAPES falls on itself; 0: by any
_CANDIDATES = 2  # kinds of shape that are refined
_STEPS = 4  # of Gauss-Newton
_BLOCK = 250  # images decoded at once: the temporaries stay near the cache

_Place = np.ndarray  # (n, 4) float64: x, y, size, rotation


class Decoded(NamedTuple):
    """What N images show: arrays of N rows, and the nearest factors as in `shapes.draw_factors`.

    `mode` is the label. `residual` is what the best picture leaves over, as a share of the contrast between ink and
    ground: the root mean square of its means over 3x3 pixels, or a third of that of the pixels themselves if that is
    more. Both are the same for white noise; the first sees misplaced and blurred ink, the second checkerboards.
    `colour_error` is the larger distance of ink and ground from the palette, in RGB levels.
    """

    factors: Factors
    mode: np.ndarray
    residual: np.ndarray
    colour_error: np.ndarray
    on_manifold: np.ndarray

    @property
    def shape(self) -> np.ndarray:
        """(N,) int64, index into SHAPES."""
        return self.factors["shape"]

    @property
    def colour(self) -> np.ndarray:
        """(N,) int64, index into COLOURS."""
        return self.factors["colour"]


def score(images: Tensor, labels: Tensor | None = None) -> dict[str, float]:
    """{"mode_coverage": of 48, "on_manifold": share} of the first 2,000 of `images`, uint8 (N, 3, H, W).

    With fewer images fewer modes are seen twice: 2,000 real ones show all 48. With `labels`, (N,) int64, that the
    images were asked to show, also what `label_accuracy` says of them.
    """
    decoded = decode(images[:SAMPLE])
    asked = {} if labels is None else label_accuracy(decoded, labels[:SAMPLE].cpu().numpy())
    return {**mode_coverage(decoded), **asked}


def label_accuracy(decoded: Decoded, labels: np.ndarray) -> dict[str, float]:
    """Share of images whose nearest shape and colour are those of their label, (N,) int64, on the manifold or not."""
    shape, colour = decoded.shape == labels // len(COLOURS), decoded.colour == labels % len(COLOURS)
    shares = {"label": shape & colour, "shape": shape, "colour": colour}
    return {f"{what}_accuracy": float(right.mean()) for what, right in shares.items()}


def mode_coverage(decoded: Decoded, n_modes: int = len(CLASS_NAMES), hits: int = 2) -> dict[str, float]:
    """How many modes have at least `hits` images on the manifold, and the share of all images that is on it."""
    found = np.bincount(decoded.mode[decoded.on_manifold], minlength=n_modes)
    return {"mode_coverage": int((found >= hits).sum()), "on_manifold": float(decoded.on_manifold.mean())}


def decode(images: Tensor) -> Decoded:
    """The nearest factors of every image, uint8 (N, 3, H, W); gentle and full alike, any place, size and rotation.

    Images are judged at 32x32: larger ones are averaged down, smaller ones enlarged, so that those count as blurred.

    Raises:
        ValueError: `images` are not colour images in bytes, or none.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(f"the decoder reads uint8 images (N, 3, H, W), not {images.dtype} {tuple(images.shape)}")
    parts = [_decode_block(_resized(block)) for block in images.cpu().split(_BLOCK)]
    shape, place, ground, ink, residual = (np.concatenate(part) for part in zip(*parts, strict=True))
    colour, ink_error = _nearest(ink, COLOURS)
    background, ground_error = _nearest(ground, BACKGROUNDS)
    factors = {"shape": shape, "colour": colour, "background": background}
    factors |= dict(zip(("x", "y", "size", "rotation"), place.T, strict=True))
    colour_error = np.maximum(ink_error, ground_error)
    limits = np.array([LIMITS[name] for name in SHAPES])[shape]
    on_manifold = (residual < limits) & (colour_error < COLOUR_LIMIT)
    return Decoded(factors, shape * len(COLOURS) + colour, residual, colour_error, on_manifold)


def _resized(images: Tensor) -> np.ndarray:
    """Bytes (n, 3, H, W) to levels (n, 3, 1024) float32; averaging is how the renderer anti-aliases too."""
    levels, side = images.float(), (_SIDE, _SIDE)
    if levels.shape[-1] > _SIDE or levels.shape[-2] > _SIDE:
        levels = F.interpolate(levels, side, mode="area")
    elif levels.shape[-2:] != side:
        levels = F.interpolate(levels, side, mode="bilinear", align_corners=False)
    return levels.flatten(2).numpy()


class _Fit(NamedTuple):
    """One kind of shape fitted to n images: `ground` and `ink` (n, 3), `error` (n,) the root mean square left over."""

    place: _Place
    ground: np.ndarray
    ink: np.ndarray
    error: np.ndarray


def _decode_block(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Levels (n, 3, 1024) to shape (n,), place (n, 4), ground (n, 3), ink (n, 3), residual (n,)."""
    n = len(pixels)
    guesses = _guess(pixels)
    errors = np.stack([_fit(pixels, shape, guesses[shape])[0].error for shape in range(len(SHAPES))], axis=1)
    best = _Fit(np.zeros((n, 4)), np.zeros((n, 3)), np.zeros((n, 3)), np.full(n, np.inf))
    kind = np.zeros(n, dtype=np.int64)
    for candidate in np.argsort(errors, axis=1)[:, :_CANDIDATES].T:
        for shape, rows in _by_kind(candidate):
            fit = _refine(pixels[rows], shape, guesses[shape][rows])
            better = fit.error < best.error[rows]
            kind[rows[better]] = shape
            for kept, new in zip(best, fit, strict=True):
                kept[rows[better]] = new[better]
    residual = np.zeros(n)
    for shape, rows in _by_kind(kind):
        fit, _, left = _fit(pixels[rows], shape, best.place[rows])
        contrast = np.sqrt(np.square(fit.ink - fit.ground).mean(1))
        residual[rows] = _residual(left) / np.maximum(contrast, 1.0)
    return kind, best.place, best.ground, best.ink, residual


def _by_kind(kind: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Every kind of shape that occurs, with the rows where it does."""
    return [(int(shape), np.flatnonzero(kind == shape)) for shape in np.unique(kind)]


def _residual(left: np.ndarray) -> np.ndarray:
    """What is left over (n, 3, 1024), as one number an image (n,), in levels; see `Decoded`."""
    means = F.avg_pool2d(torch.from_numpy(left).unflatten(2, (_SIDE, _SIDE)), 3, stride=1).numpy()
    return np.maximum(np.sqrt(np.square(means).mean((1, 2, 3))), np.sqrt(np.square(left).mean((1, 2))) / 3)


def _guess(pixels: np.ndarray) -> list[_Place]:
    """Where each kind of shape would stand, from the moments of the ink: one `_Place` (n, 4) for each of SHAPES."""
    x_axis, y_axis, border = _grid()
    ground = np.median(pixels[:, :, border], axis=2)  # shapes leave most of the border free
    off = pixels - ground[:, :, None]
    towards_ink = np.linalg.eigh(off @ off.transpose(0, 2, 1))[1][:, :, -1]
    ink = (towards_ink[:, None] @ off)[:, 0]
    square = ink * ink
    level = (square * ink).sum(1) / np.maximum(square.sum(1), 1.0)  # exact where ink has but one level; signed
    ink = np.minimum(ink / np.where(np.abs(level) < 1, 1, level)[:, None], 1)
    ink[ink < 0.15] = 0  # noise, which far from the centre would weigh much
    area = np.maximum(ink.sum(1), 1)
    x, y = ink @ x_axis / area, ink @ y_axis / area  # every shape is centred on its centroid
    from_centre = (x_axis - x[:, None]) + 1j * (y_axis - y[:, None])
    turns = {fold: _harmonic(ink, from_centre, fold) for fold in set(_FOLDS) - {0}}
    places = []
    for fold, (unit_area, unit_turn) in zip(_FOLDS, _unturned(), strict=True):
        size = np.clip(np.sqrt(area / unit_area), 0.1, 1)
        rotation = np.angle(turns[fold] / unit_turn) / fold if fold else np.zeros(len(pixels))
        places.append(np.stack([x, y, size, rotation], axis=1).astype(np.float64))
    return places


def _harmonic(ink: np.ndarray, z: np.ndarray, fold: int) -> np.ndarray:
    """Sum over pixels of ink |z|^2 exp(i fold arg z), (n,): its argument turns `fold` times as fast as the shape."""
    r = np.abs(z) + 1e-6
    return (ink * r**2 * (z / r) ** fold).sum(1)


@cache
def _unturned() -> list[tuple[float, complex]]:
    """For each of SHAPES: its area in pixels at size 1, and its harmonic when it is not turned."""
    x_axis, y_axis, _ = _grid()
    size, nought, found = np.full(1, 0.7), np.zeros(1), []
    for shape, fold in enumerate(_FOLDS):
        ink = coverage(shape, size, nought, nought, nought, _SIDE).reshape(1, -1)
        found.append((float(ink.sum()) / 0.7**2, complex(_harmonic(ink, (x_axis + 1j * y_axis)[None], fold)[0])))
    return found


@cache
def _grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x and y of every pixel, (1024,) float32, and the indices of the outermost pixels."""
    line = ((np.arange(_SIDE) * 2 + 1) / _SIDE - 1).astype(np.float32)
    x, y = np.tile(line, _SIDE), np.repeat(line, _SIDE)
    return x, y, np.flatnonzero(np.maximum(np.abs(x), np.abs(y)) == line[-1])


def _fit(pixels: np.ndarray, shape: int, place: _Place) -> tuple[_Fit, np.ndarray, np.ndarray]:
    """Least squares of ground and ink for a shape where it stands.

    Returns the fit, the coverage (n, 1024) and what is left over (n, 3, 1024).
    """
    x, y, size, rotation = place.T
    covered = coverage(shape, size, x, y, rotation, _SIDE).reshape(len(place), -1)
    share = covered.mean(1, keepdims=True)
    centred = covered - share
    power = np.maximum(np.square(centred).sum(1), 1e-3)
    contrast = (pixels @ centred[:, :, None])[:, :, 0] / power[:, None]
    middle = pixels.mean(2)
    left = pixels - middle[:, :, None] - contrast[:, :, None] * centred[:, None]
    ground = middle - contrast * share
    return _Fit(place, ground, ground + contrast, np.sqrt(np.square(left).mean((1, 2)))), covered, left


def _refine(pixels: np.ndarray, shape: int, place: _Place) -> _Fit:
    """Gauss-Newton on place, size and rotation; ground and ink are solved for at every step (variable projection)."""
    x_axis, y_axis, _ = _grid()
    fit, covered, left = _fit(pixels, shape, place)
    best = fit
    for _ in range(_STEPS):
        gradients = np.gradient(covered.reshape(-1, _SIDE, _SIDE), 2 / _SIDE, axis=(1, 2))
        down, across = (g.reshape(covered.shape).astype(np.float32) for g in gradients)
        x, y, size, _ = (column[:, None].astype(np.float32) for column in fit.place.T)
        dx, dy = x_axis - x, y_axis - y
        slopes = np.stack([-across, -down, -(dx * across + dy * down) / size, dy * across - dx * down], axis=1)
        # Ground and ink take their part of every slope: what they explain is no reason to move.
        flat = np.stack([np.ones_like(covered), covered], axis=1)
        gram = flat @ flat.transpose(0, 2, 1) + 1e-3 * np.eye(2)
        slopes -= ((slopes @ flat.transpose(0, 2, 1)) @ np.linalg.inv(gram)).astype(np.float32) @ flat
        contrast = fit.ink - fit.ground
        wanted = (contrast[:, None] @ left)[:, 0] / np.maximum(np.square(contrast).sum(1), 1)[:, None]
        normal = (slopes @ slopes.transpose(0, 2, 1)).astype(np.float64)
        damping = 0.01 * np.trace(normal, axis1=1, axis2=2) / 4 + 1e-3  # a circle's rotation has no slope at all
        normal += damping[:, None, None] * np.eye(4)
        step = np.linalg.solve(normal, slopes @ wanted[:, :, None])[:, :, 0]
        moved = fit.place + np.clip(step, -0.15, 0.15)
        moved[:, 2] = np.clip(moved[:, 2], 0.1, 1)
        fit, covered, left = _fit(pixels, shape, moved)
        better = fit.error < best.error
        pairs = zip(best, fit, strict=True)
        best = _Fit(*(np.where(better if new.ndim == 1 else better[:, None], new, old) for old, new in pairs))
    return best


def _nearest(colours: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The nearest colour of a palette to each row (n, 3): its index (n,) int64, and the distance (n,)."""
    distance = np.linalg.norm(colours[:, None] - np.array(list(palette.values()), dtype=np.float64), axis=2)
    return distance.argmin(1), distance.min(1)
