"""Bits per pixel against PSNR: codes of a VQ-VAE, latents of an autoencoder cut into levels, and JPEG.

    python benchmarks/likelihood/compression.py RUN [RUN ...] [--n 500]

Test images of `shapes`. Vectors are cut into 2 to 6 bits for each entry, evenly between its extremes over train images,
which the receiver is taken to know, like the network. Codes cost the logarithm of their number. Nothing is
entropy-coded, which JPEG is; JPEG's bytes are also counted without tables and headers: what a grey picture takes.
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_gen import checkpoints, images, latent
from lightning_gen.data.shapes import Shapes
from lightning_gen.metrics import paired
from lightning_gen.module import GenerativeModule

BITS = (2, 3, 4, 6)


def encoded(model: GenerativeModule, pixels: Tensor) -> Tensor:
    return torch.cat([latent.latents_of(model, images.from_uint8(part)) for part in pixels.split(250)])


@torch.no_grad()
def psnr(model: GenerativeModule, codes: Tensor, pixels: Tensor) -> float:
    with model.asked():
        return paired.psnr(images.to_uint8(model.decode(codes)).cpu(), pixels)


def rows(model: GenerativeModule, name: str, pixels: Tensor, known: Tensor) -> list[tuple[str, float, float]]:
    codes, area = encoded(model, pixels), pixels.shape[2] * pixels.shape[3]
    if not codes.is_floating_point():
        bits = codes[0].numel() * math.log2(model.hparams.codes)
        return [(f"{name}, {model.hparams.codes} codes", bits / area, psnr(model, codes, pixels))]
    reference, found = encoded(model, known), []
    low, high = reference.amin(0), reference.amax(0)
    for bits in BITS:
        steps = 2**bits - 1
        cut = ((codes - low) / (high - low)).clamp(0, 1).mul(steps).round() / steps * (high - low) + low
        found.append((f"{name}, {bits} bits an entry", bits * codes.shape[1] / area, psnr(model, cut, pixels)))
    return found


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="jpeg", quality=quality, optimize=True)
    return file.getvalue()


def jpeg_row(pixels: Tensor, quality: int) -> tuple[str, float, float, float]:
    pictures = pixels.permute(0, 2, 3, 1).numpy()
    files = [jpeg(picture, quality) for picture in pictures]
    again = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    area, empty = pictures.shape[1] * pictures.shape[2], len(jpeg(np.full_like(pictures[0], 128), quality))
    size = float(np.mean([len(file) for file in files]))
    decibels = paired.psnr(torch.from_numpy(again).permute(0, 3, 1, 2), pixels)
    return f"JPEG, quality {quality}", 8 * size / area, 8 * (size - empty) / area, decibels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--n", type=int, default=500)
    options = parser.parse_args()
    pixels = Shapes(split="test", size=options.n).read(np.arange(options.n))["image"]
    known = Shapes(size=2000).read(np.arange(2000))["image"]
    print("| coder | bits a pixel | without headers | PSNR, dB |\n|---|---:|---:|---:|")
    for run in options.runs:
        model, origin = checkpoints.load_model(checkpoints.find(str(run)), "cpu")
        for name, bits, decibels in rows(model, origin["model"], pixels, known):
            print(f"| {name} | {bits:.2f} | {bits:.2f} | {decibels:.1f} |")
    for quality in (5, 25, 50, 75, 95):
        name, whole, apart, decibels = jpeg_row(pixels, quality)
        print(f"| {name} | {whole:.2f} | {apart:.2f} | {decibels:.1f} |")


if __name__ == "__main__":
    main()
