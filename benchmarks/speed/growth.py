"""Images a second as the work grows: resolution, width and batch of dcgan, resolution of progan, and an image's FLOPs.

    python benchmarks/speed/growth.py [--rounds N] [--threads N] [--json FILE]

The bare loop of `bare.py` with our defaults: dcgan at the middle of all three and along one of them at a time, progan's
preset `quick` with all its resolutions grown.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bare import BARE, BareLoop
from step import CLOCKS, GROWN, machine
from torch.utils.flop_counter import FlopCounterMode

from lightning_gen import registry

RESOLUTIONS, WIDTHS, BATCHES = (32, 64, 128), (16, 32, 64), (8, 32, 128)
MIDDLE = (64, 32, 32)


def measure(
    name: str, settings: dict[str, Any], resolution: int, batch_size: int, rounds: int, clock: str
) -> dict[str, Any]:
    """Images a second, and GFLOPs of an image by PyTorch's counter (forward and backward of both networks)."""
    model: Any = registry.load(name)(**{**settings, "image_shape": (3, resolution, resolution)})
    model.to(memory_format=torch.channels_last)
    pixels = np.random.default_rng(0).integers(0, 256, (128, 3, resolution, resolution), dtype=np.uint8)
    loop = BARE[name](model, {"image": pixels}, batch_size, "bf16-mixed", GROWN)
    # the counter does not go along where a penalty differentiates inside the step
    with nullcontext() if model.hparams.penalty else FlopCounterMode(display=False) as counter:
        loop.run(1)
    loop.run(1)
    spent = []
    for _ in range(rounds):
        began = CLOCKS[clock]()
        loop.run(2)
        spent.append((CLOCKS[clock]() - began) / 2)
    rate = batch_size / float(np.median(spent))
    flops = counter.get_total_flops() / batch_size / 1e9 if counter else None
    return {
        "model": name,
        "resolution": resolution,
        "width": model.hparams.width,
        "batch": batch_size,
        "images_per_second": rate,
        "gflops_an_image": flops,
        "gflops_per_second": flops and rate * flops,
    }


def _flops(r: dict[str, Any]) -> str:
    if r["gflops_an_image"] is None:
        return ""
    return f"{r['gflops_an_image']:7.3f} GFLOP an image  {r['gflops_per_second']:7.0f} GFLOP/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    BareLoop.fused = True
    resolution, width, batch_size = MIDDLE
    asked = [("dcgan", {"width": width}, side, batch_size) for side in RESOLUTIONS]
    asked += [("dcgan", {"width": wide}, resolution, batch_size) for wide in WIDTHS if wide != width]
    asked += [("dcgan", {"width": width}, resolution, many) for many in BATCHES if many != batch_size]
    asked += [("progan", registry.load("progan").presets["quick"], side, 16) for side in (*RESOLUTIONS, 256)]
    found = []
    for each in asked:
        r = measure(*each, options.rounds, options.clock)
        found.append(r)
        print(
            f"{r['model']:7} {r['resolution']:4} px  width {r['width']:3}  batch {r['batch']:4}  "
            f"{r['images_per_second']:8.1f} images/s  {_flops(r)}",
            flush=True,
        )
    if options.json:
        content = {"machine": machine(), "clock": options.clock, "results": found}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
