"""What the loader alone delivers, beside what training consumes.

    python benchmarks/speed/loader.py [--seconds N] [--threads N] [--prepare FOLDER|ARCHIVE …]

Batches of 32 as a run draws them: a shuffled endless stream, half of the pictures mirrored, bytes to floats in [-1, 1]
as the device hook does it. `folder` reads pictures that were prepared once, from its memory map; `shapes` draws.
`--prepare` times that first preparation of sets of your own, at 32 pixels.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lightning_gen import images
from lightning_gen.data.folder import Folder
from lightning_gen.data.shapes import Shapes
from lightning_gen.data.source import Source
from lightning_gen.data.stream import Stream, loader

BATCH = 32


def rate(source: Source, seconds: float) -> float:
    """Images a second."""
    batches = iter(loader(source, Stream(len(source), BATCH, seed=0)))
    for _ in range(3):
        next(batches)
    began, seen = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        images.from_uint8(next(batches)["image"])
        seen += BATCH
    return seen / (time.perf_counter() - began)


def folder(home: Path, side: int, count: int) -> Folder:
    """Pictures of noise, prepared."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    for i, picture in enumerate(torch.from_numpy(pixels)):
        images.save_png(picture, home / str(side) / f"{i:05d}.png")
    return Folder(str(home / str(side)), side, flip=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--prepare", nargs="+", default=[], metavar="FOLDER|ARCHIVE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["LGEN_CACHE"] = str(Path(temporary) / "cache")
        sources = {
            "folder, 32 pixels": folder(Path(temporary), 32, 2000),
            "folder, 256 pixels": folder(Path(temporary), 256, 500),
            "shapes, 32 pixels": Shapes(),
        }
        for name, source in sources.items():
            found = rate(source, options.seconds)
            print(f"{name:20} {found:10,.0f} images/s  {found * np.prod(source.image_shape) / 1e6:8.1f} MB/s")
        for root in options.prepare:
            began = time.perf_counter()
            prepared = Folder(root)
            print(f"{Path(root).name:20} {len(prepared):10,} images prepared in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
