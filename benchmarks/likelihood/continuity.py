"""Continuity and completeness of latent spaces on `shapes`: is there an image everywhere between two, and everywhere?

    python benchmarks/likelihood/continuity.py RUN [RUN ...] [--figure FILE.png] [--strips FILE.png]

For each run the share of images that the exact decoder finds on the manifold, and their median residual: of test
images through encoder and decoder; of the middles between encoded pairs of them; of samples from the model's own
distribution of latents; and of a standard normal one, which only a VAE is trained to fill.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_gen import checkpoints, images, latent
from lightning_gen.data import decoder
from lightning_gen.data.shapes import Shapes
from lightning_gen.module import GenerativeModule

STEPS = 10


def judged(pixels: Tensor) -> tuple[float, float]:
    """The share on the manifold and the median residual of images (N, 3, H, W) uint8."""
    read = decoder.decode(pixels)
    return float(read.on_manifold.mean()), float(np.median(read.residual))


def made(model: GenerativeModule, latents: Tensor) -> Tensor:
    return images.to_uint8(latent.images_of(model, latents)).cpu()


def walks(model: GenerativeModule, pixels: Tensor) -> Tensor:
    """Straight lines from one half of the images to the other in the latent space, (STEPS + 1, N / 2, D)."""
    first, second = latent.latents_of(model, images.from_uint8(pixels)).cpu().chunk(2)
    return torch.stack([latent.linear(first, second, step / STEPS) for step in range(STEPS + 1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--n", type=int, default=1000, help="test images, half as many walks, as many samples")
    parser.add_argument("--figure", type=Path, help="write the median residual along the walks")
    parser.add_argument("--strips", type=Path, help="write four walks of each run, one below the other")
    options = parser.parse_args()
    pixels = Shapes(split="test", size=options.n).read(np.arange(options.n))["image"]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes, strips = figure.add_subplot(), []
    print("| run | reconstructions | middles of two | own samples | standard normal |\n|---|---|---|---|---|")
    for run in options.runs:
        model, name = (found := checkpoints.load_model(checkpoints.find(str(run)), "cpu"))[0], found[1]["model"]
        path = walks(model, pixels)
        along = [judged(made(model, latents)) for latents in path]
        standard = torch.randn(options.n, path.shape[2], generator=torch.Generator().manual_seed(0))
        own = images.to_uint8(model.sample(options.n)).cpu()
        ends = judged(made(model, torch.cat([path[0], path[-1]])))
        cells = [ends, along[STEPS // 2], judged(own), judged(made(model, standard))]
        print(f"| {name} | " + " | ".join(f"{share:.1%}, {residual:.3f}" for share, residual in cells) + " |")
        axes.plot(np.linspace(0, 1, STEPS + 1), [residual for _, residual in along], marker="o", label=name)
        strips += [made(model, path[:, walk]) for walk in range(4)]
    axes.set(xlabel="from one encoded test image to another", ylabel="median residual of the exact decoder")
    axes.set_ylim(bottom=0)
    axes.legend()
    if options.figure:
        figure.savefig(options.figure, dpi=110)
    if options.strips:
        images.save_png(images.enlarge(images.grid(torch.cat(strips), columns=STEPS + 1), 700), options.strips)


if __name__ == "__main__":
    main()
