"""Images a second as the work grows: resolution, width and batch of dcgan, and the FLOPs that an image costs.

    python benchmarks/speed/growth.py [--rounds N] [--threads N] [--json FILE]

The bare loop of `bare.py` with our defaults, at the middle of all three and along one of them at a time.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bare import DCGAN
from step import CLOCKS, GROWN, machine
from torch.utils.flop_counter import FlopCounterMode

from lightning_gen import registry

RESOLUTIONS, WIDTHS, BATCHES = (32, 64, 128), (16, 32, 64), (8, 32, 128)
MIDDLE = (64, 32, 32)


def measure(resolution: int, width: int, batch_size: int, rounds: int, clock: str) -> dict[str, Any]:
    """Images a second, and GFLOPs of an image by PyTorch's counter (forward and backward of both networks)."""
    model: Any = registry.load("dcgan")(image_shape=(3, resolution, resolution), width=width)
    model.to(memory_format=torch.channels_last)
    pixels = np.random.default_rng(0).integers(0, 256, (512, 3, resolution, resolution), dtype=np.uint8)
    loop = DCGAN(model, {"image": pixels}, batch_size, "bf16-mixed", GROWN)
    with FlopCounterMode(display=False) as counter:
        loop.run(1)
    loop.run(1)
    spent = []
    for _ in range(rounds):
        began = CLOCKS[clock]()
        loop.run(2)
        spent.append((CLOCKS[clock]() - began) / 2)
    rate = batch_size / float(np.median(spent))
    flops = counter.get_total_flops() / batch_size / 1e9
    return {
        "resolution": resolution,
        "width": width,
        "batch": batch_size,
        "images_per_second": rate,
        "gflops_an_image": flops,
        "gflops_per_second": rate * flops,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    DCGAN.fused = True
    resolution, width, batch_size = MIDDLE
    asked = [(side, width, batch_size) for side in RESOLUTIONS]
    asked += [(resolution, wide, batch_size) for wide in WIDTHS if wide != width]
    asked += [(resolution, width, many) for many in BATCHES if many != batch_size]
    found = []
    for each in asked:
        r = measure(*each, options.rounds, options.clock)
        found.append(r)
        print(
            f"{r['resolution']:4} px  width {r['width']:3}  batch {r['batch']:4}  "
            f"{r['images_per_second']:8.1f} images/s  {r['gflops_an_image']:7.3f} GFLOP an image  "
            f"{r['gflops_per_second']:7.0f} GFLOP/s",
            flush=True,
        )
    if options.json:
        content = {"machine": machine(), "clock": options.clock, "results": found}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
