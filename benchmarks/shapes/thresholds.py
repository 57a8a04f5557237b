"""Set the limits of the `shapes` decoder and measure what they pass and fail; no generator takes part.

    python benchmarks/shapes/thresholds.py

A limit is the geometric mean of two residuals of the shape's real gentle test images: the 99th percentile after the
small faults that any generator has (to pass), and the 1st percentile after a blur that a viewer notices (to fail). It
prints the limits that `lightning_gen/data/decoder.py` holds, and writes the rates at them to README.md beside it.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.data import decoder
from lightning_gen.data.shapes import BACKGROUNDS, COLOURS, SHAPES, Shapes, Variation

NOISE = 8.0  # grey levels, standard deviation
SMALL_BLUR = 0.5  # pixels at 32x32, standard deviation
BLUR = 1.5


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, C, H, W), as floats; the edge pixels go on outside."""
    radius = math.ceil(4 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    line = line / line.sum()
    planes = F.pad(images.float(), (radius,) * 4, mode="replicate").flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))
    return planes.view(images.shape)


def to_bytes(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def small_faults(images: Tensor, seed: int = 0) -> Tensor:
    """What is forgiven: a blur of half a pixel, then white noise of 8 levels."""
    soft = blurred(images, SMALL_BLUR)
    return to_bytes(soft + NOISE * torch.randn(soft.shape, generator=torch.Generator().manual_seed(seed)))


def averages(images: Tensor, seed: int = 0) -> Tensor:
    """Each image averaged with another one, drawn at random."""
    other = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return to_bytes((images.float() + images[other].float()) / 2)


def blobs(n: int, seed: int = 0, side: int = 32, samples: int = 4) -> Tensor:
    """Sharp random contours in the palette's colours, (n, 3, side, side): no shape of ours, but as clean as one."""
    rng = np.random.default_rng(seed)
    line = (np.arange(side * samples) * 2 + 1) / (side * samples) - 1
    radius, angle = np.hypot(line, line[:, None]), np.arctan2(line[:, None], line)
    inks, grounds = (np.array(list(palette.values()), dtype=float) for palette in (COLOURS, BACKGROUNDS))
    images = np.empty((n, 3, side, side))
    for i in range(n):
        edge = np.ones_like(angle)
        for k in range(2, 7):
            edge += rng.normal(0, 0.12) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
        inside = radius < rng.uniform(0.45, 0.65) * edge
        covered = inside.reshape(side, samples, side, samples).mean((1, 3))
        ink, ground = inks[rng.integers(len(inks))], grounds[rng.integers(len(grounds))]
        images[i] = ground[:, None, None] + covered * (ink - ground)[:, None, None]
    return to_bytes(torch.from_numpy(images))


def limits(images: Tensor, truth: np.ndarray) -> dict[str, float]:
    """The limit of each shape from real images (N, 3, 32, 32) and their shapes (N,)."""
    to_pass, to_fail = (decoder.decode(x).residual for x in (small_faults(images), to_bytes(blurred(images, BLUR))))
    found = {}
    for shape, name in enumerate(SHAPES):
        here = truth == shape
        found[name] = round(float(np.sqrt(np.percentile(to_pass[here], 99) * np.percentile(to_fail[here], 1))), 3)
    return found


def rates(images: Tensor, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Shares (7,) of real images of each shape, and of all, that the committed limits pass; see the columns' names.

    An average counts for the shape of the first of its two images, a blob for the shape it was taken for.
    """
    strange = blobs(len(images) // 2)
    seen = {
        "real": decoder.decode(images),
        "small faults": decoder.decode(small_faults(images)),
        "blurred": decoder.decode(to_bytes(blurred(images, BLUR))),
        "average of two": decoder.decode(averages(images)),
        "blob": decoder.decode(strange),
    }
    table = {}
    for name, decoded in seen.items():
        of = decoded.shape if name == "blob" else truth
        by_shape = (decoded.on_manifold[of == shape] for shape in range(len(SHAPES)))
        shares = [passed.mean() if len(passed) else np.nan for passed in by_shape]  # no blob is taken for a ring
        table[name] = np.array([*shares, decoded.on_manifold.mean()])
    return table


def measure(variation: Variation, n: int) -> tuple[dict[str, np.ndarray], str]:
    """The rates on n real images of a variation, and a line about their labels."""
    source = Shapes(size=n, split="test", variation=variation)
    batch = source.read(np.arange(n))
    images, labels = batch["image"], batch["label"].numpy()
    right = [float((decoder.decode(x).mode == labels).mean()) for x in (images, small_faults(images))]
    line = f"Labels decoded rightly: {right[0]:.2%} of real images, {right[1]:.2%} after small faults."
    return rates(images, labels // len(COLOURS)), line


def markdown(table: dict[str, np.ndarray]) -> str:
    def cell(share: float) -> str:
        return "none" if np.isnan(share) else f"{100 * share:.1f} %"

    rows = [f"| shape | {' | '.join(table)} |", f"|---|{'---:|' * len(table)}"]
    for i, name in enumerate([*SHAPES, "**all**"]):
        rows.append(f"| {name} | {' | '.join(cell(shares[i]) for shares in table.values())} |")
    return "\n".join(rows)


TEXT = """# The decoder of `shapes`: limits and rates

    python benchmarks/shapes/thresholds.py

sets the limits and writes this page, from {n} real test images of each variation; no generator takes part. (The test
split is the decoder's, then: nothing is trained on it.)

An image is **on the manifold** when the best picture of six shapes leaves a residual below the limit of its shape and
when ink and ground lie within {colour:.0f} RGB levels of the palette. The residual is a share of the contrast between
ink and ground; `Decoded` in `lightning_gen/data/decoder.py` defines it.

To be forgiven, *small faults*: a Gaussian blur of sd {small} pixel, then white noise of sd {noise:.0f} levels of 255.
To be refused: *blurred*, sd {blur} pixels; the *average of two* real images drawn at random; a *blob*, a sharp random
contour in the right colours. The limit of a shape is the geometric mean of the 99th percentile of the residual after
small faults and of its 1st percentile when blurred, both on gentle images. No model takes part in it.
The gentle rates are of the very images that set the limits; nothing was tuned on the full ones.

| | {names} |
|---|{dashes}
| limit | {limits} |

## Share of images that pass, `variation=gentle`

{gentle}

{gentle_line}

## Share of images that pass, `variation=full`, at the same limits

{full}

{full_line}

What passes of the averages are pairs with the same ink and ground whose outlines nearly agree.

{speed}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=9600, help="real images of each variation")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("README.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    source, rows = Shapes(split="test", size=options.n), np.arange(options.n)
    images = source.read(rows)["image"]
    found = limits(images, source.factors(rows)["shape"])
    print(f"LIMITS = {found}")
    if found != decoder.LIMITS:
        raise SystemExit(f"decoder.py holds {decoder.LIMITS}: put the line above there and run again")
    (gentle, gentle_line), (full, full_line) = measure("gentle", options.n), measure("full", options.n)
    begun = time.process_time()
    Shapes().read(np.arange(1))
    rendered = time.process_time() - begun
    begun = time.process_time()
    decoder.decode(images[: decoder.SAMPLE])
    decoded = time.process_time() - begun
    speed = f"On one core: 10,000 images rendered in {rendered:.1f} s, {decoder.SAMPLE:,} decoded in {decoded:.1f} s."
    page = TEXT.format(
        n=f"{options.n:,}",
        colour=decoder.COLOUR_LIMIT,
        small=SMALL_BLUR,
        noise=NOISE,
        blur=BLUR,
        names=" | ".join(SHAPES),
        dashes="---:|" * len(SHAPES),
        limits=" | ".join(str(x) for x in found.values()),
        gentle=markdown(gentle),
        gentle_line=gentle_line,
        full=markdown(full),
        full_line=full_line,
        speed=speed,
    )
    options.out.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
