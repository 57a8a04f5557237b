"""What each default of ours buys, one after the other, on bare loops of our networks.

    python benchmarks/speed/defaults.py [--models dcgan sngan …] [--rounds N] [--threads N] [--compiled] [--json FILE]

Every loop takes the same images and begins as PyTorch does by itself: float32, the usual layout, Adam weight by weight.
The ways are interleaved, block by block, so that a machine that slows down slows down all. With `--compiled` the last
way is also compiled, as `--update.compile` does it, which takes minutes that are told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from bare import BARE, BareLoop
from step import CLOCKS, GROWN, machine

from lightning_gen import execution, registry


class Way(NamedTuple):
    """One more default than the way before."""

    name: str
    layout: torch.memory_format
    precision: str
    fused: bool | None
    compiled: bool = False


WAYS = (
    Way("PyTorch's own", torch.contiguous_format, "32-true", None),
    Way("+ channels_last", torch.channels_last, "32-true", None),
    Way("+ bf16-mixed", torch.channels_last, "bf16-mixed", None),
    Way("+ fused Adam", torch.channels_last, "bf16-mixed", True),
)
COMPILED = Way("+ compiled", torch.channels_last, "bf16-mixed", True, compiled=True)


def loops(model: str, ways: Sequence[Way]) -> list[BareLoop]:
    """A bare loop of the preset `quick` for each of the ways."""
    cls = registry.load(model)
    recipe = cls.recipes["quick"]
    made = []
    for way in ways:
        torch.manual_seed(0)
        ours: Any = cls(**cls.presets["quick"]).to(memory_format=way.layout)
        pixels = np.random.default_rng(0).integers(0, 256, (1000, *ours.image_shape), dtype=np.uint8)
        batch_size = recipe.get("data.batch_size", 32) * ours.critic_steps
        BARE[model].fused = way.fused
        made.append(BARE[model](ours, dict.fromkeys(ours.views, pixels), batch_size, way.precision, GROWN))
        if way.compiled:
            for network in made[-1].networks.values():
                execution.compile(network)
    BARE[model].fused = None
    return made


def measure(model: str, ways: Sequence[Way], rounds: int, block: int, clock: str) -> dict[str, float]:
    """Images a second in each of the ways, medians over the rounds."""
    now, made = CLOCKS[clock], loops(model, ways)
    for way, loop in zip(ways, made, strict=True):
        began = time.perf_counter()
        loop.run(2)
        if way.compiled:
            print(f"{model:9} compiled in {time.perf_counter() - began:.0f} s", flush=True)
    seconds: list[list[float]] = [[] for _ in made]
    for _ in range(rounds):
        for loop, spent in zip(made, seconds, strict=True):
            began = now()
            loop.run(block)
            spent.append((now() - began) / block)
    return {
        way.name: loop.batch_size / float(np.median(spent))
        for way, loop, spent in zip(ways, made, seconds, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(BARE), choices=list(BARE))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=int, default=4, help="steps in a block")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways = (*WAYS, COMPILED) if options.compiled else WAYS
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # what was compiled before would take no time
        for model in options.models:
            found[model] = measure(model, ways, options.rounds, options.block, options.clock)
            told = "  ".join(f"{name} {value:.1f}" for name, value in found[model].items())
            print(f"{model:9} images/s: {told}", flush=True)
    if options.json:
        content = {"machine": machine(), "clock": options.clock, "images_per_second": found}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
