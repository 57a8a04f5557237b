"""What the framework costs: our training step against a bare PyTorch loop of the same networks, interleaved.

    python benchmarks/speed/step.py [--models dcgan progan] [--rounds N] [--json FILE]
    python benchmarks/speed/step.py --tiny            # networks of no size: the framework's own milliseconds
    python benchmarks/speed/step.py --clock cpu --threads 1     # on a machine that others use too

Ours is `experiment.fit` as `lgen fit` runs it: Trainer, stream loader, records and tensorboard at their default
interval, every built-in callback; scores, grids and checkpoints are off, for they are not part of a step. The bare
loop (`bare.py`) is what one would write by hand and fast. Before anything is timed, both take one step from the same
weights, images and noise, and must end with the same weights.

A callback pauses our run every few steps and runs as many bare steps in the same process, so that a machine that
slows down slows down both. A pair is one block of each.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytorch_lightning as pl
import torch
from bare import BARE, BareLoop, mirror

from lightning_gen import experiment, noise, registry, settings
from lightning_gen.clock import Clock
from lightning_gen.data.source import Batch, Source

CASES = {
    **{f"{model} quick": (model, "quick", ()) for model in BARE},
    "dcgan default": ("dcgan", None, ("--model.width", "64", "--data.resolution", "64", "--data.batch_size", "64")),
}

OFF = ("--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--checkpoint.every_kimg", "0")

TINY = ("--model.width", "2", "--model.latent_dim", "4", "--data.batch_size", "2")
"""Layers, parameters and buffers keep their number, on which the framework's work depends; the arithmetic is gone."""

GROWN = 1_000_000
"""Where the clock starts: past every fade-in, so that progan works at its full resolution all the time."""

BAR_RATIO, BAR_MS = 1.02, 0.5
"""What the framework may cost: 2 % of a bare step, or half a millisecond where that is more."""


class RandomPixels(Source):
    """Random images in memory, half of them mirrored in training: the cheapest thing that goes the whole way.

    Args:
        resolution: Height and width in pixels.
        length: Number of images.
    """

    split = "train"

    def __init__(self, resolution: int = 32, length: int = 10_000):
        self.image_shape = (3, resolution, resolution)
        self.class_names = []
        pixels = np.random.default_rng(0).integers(0, 256, (length, *self.image_shape), dtype=np.uint8)
        self.pixels = {view: np.roll(pixels, i, axis=0) for i, view in enumerate(self.views)}

    def __len__(self) -> int:
        return len(self.pixels[self.views[-1]])

    def read(self, indices: np.ndarray) -> Batch:
        views = {view: torch.from_numpy(pixels[indices]) for view, pixels in self.pixels.items()}
        return {**views, "image": views[self.views[-1]]}

    def augment(self, batch: Batch, chance: np.ndarray) -> Batch:
        chosen = torch.from_numpy(chance < 0.5)
        return {view: mirror(batch[view], chosen) for view in self.views}

    def digest(self) -> str:
        return "random pixels"


def pixels_for(model: str) -> type[RandomPixels]:
    """Random pixels for each of the views that a model wants."""
    return type("RandomPixels", (RandomPixels,), {"views": registry.load(model).views, "__doc__": RandomPixels.__doc__})


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Interleave(pl.Callback):
    """Stands last among the callbacks. What happens between two of its calls is our step: loader, hooks, records."""

    def __init__(self, model: str, block: int, rounds: int, warm_up: int, clock: str):
        self.model = model
        self.clock = CLOCKS[clock]
        self.block = block
        self.rounds = rounds
        self.warm_up = warm_up
        self.ours: list[float] = []
        self.bare: list[float] = []
        """Seconds of each block."""
        self._steps = 0
        self._resumed = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl_module.clock = Clock(GROWN)  # without a budget: the learning rate stays what it is

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._loop = BARE[self.model](pl_module, data.source.pixels, data.images_per_step, trainer.precision, GROWN)

    def compare(self, model: Any, batch: Any) -> None:
        """Let the loop take the first step too, from the same weights, images and noise."""
        here = noise.mix(model.seed, GROWN, 0)
        self._loop.noise = torch.Generator(model.device)
        self._loop.noise.manual_seed(here)
        torch.manual_seed(noise.mix(here, model.global_rank))  # of dropout
        self._loop.step({view: batch[view].detach() for view in model.views})
        self._loop.noise = None
        require_equal(model, self._loop)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.compare(pl_module, batch)
            self._resumed = self._now(pl_module.device)
            return
        self._steps += 1
        if self._steps < self.block:
            return
        paused = self._now(pl_module.device)
        self._loop.run(self.block)
        done = self._now(pl_module.device)
        if self.warm_up:
            self.warm_up -= 1
        else:
            self.ours.append(paused - self._resumed)
            self.bare.append(done - paused)
            if sys.stderr.isatty():
                print(f"\r{self.model}: pair {len(self.ours)} of {self.rounds} ", end="", file=sys.stderr, flush=True)
        trainer.should_stop = len(self.ours) == self.rounds
        self._steps = 0
        gc.collect()  # neither side pays for the other's rubbish
        self._resumed = self._now(pl_module.device)

    def _now(self, device: torch.device) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return self.clock()


def require_equal(model: Any, loop: BareLoop) -> None:
    """A comparison of two different steps would mean nothing. Where a gradient is no more than what rounding leaves of
    one, as that of a bias which a batch norm takes back, rounding decides in which direction Adam's first step goes:
    such weights are left out, and of the others one in a thousand may differ."""
    for name, network in loop.networks.items():
        # NaN where there is none: such weights must stand still in both
        slopes = (torch.full_like(w, torch.nan) if w.grad is None else w.grad for w in network.parameters())
        slope = flat(slopes).abs()
        told = ~(slope <= 2 * torch.finfo(loop.precision or torch.float32).eps * slope.nanmean())
        pairs = [(getattr(model, name), network)]
        if name in loop.averages:
            pairs.append((getattr(model, f"{name}_ema"), loop.averages[name]))
        for mine, other in pairs:
            ours, bare = (flat(pair.parameters())[told] for pair in (mine, other))
            apart = (~torch.isclose(ours, bare, rtol=1e-4, atol=1e-6)).double().mean().item()
            if apart > 1e-3:
                raise SystemExit(
                    f"after one step {apart:.1%} of the weights differ: the bare loop is not the same step"
                )


def flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """All numbers of the tensors, (N,)."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


@contextmanager
def registered(model: str, callback: pl.Callback) -> Iterator[None]:
    """The two parts that no distribution registers: the source `pixels` for `model`, and `callback` as `beside`."""

    class Beside(pl.Callback):
        def __new__(cls) -> Any:
            return callback

    part, load = registry.part, registry.load
    ours: dict[tuple[str, str], type] = {("pixels", "data"): pixels_for(model), ("beside", "callbacks"): Beside}
    with (
        patch.object(registry, "part", lambda name, kind="models": ours.get((name, kind)) or part(name, kind)),
        patch.object(registry, "load", lambda name, kind="models": ours.get((name, kind)) or load(name, kind)),
    ):
        yield


@dataclass(frozen=True)
class Result:
    """Milliseconds are of one step."""

    case: str
    batch_size: int
    pairs: int
    block: int
    ours_ms: float
    """Median over the blocks."""
    bare_ms: float
    ratio: float
    """Median of the pairs' own ratios: on a machine of two speeds the medians of the two sides may be of one each."""
    ratio_low: float
    """First quartile of the pairs' own ratios."""
    ratio_high: float
    """Third quartile."""
    ratio_total: float
    """Of the summed times: what rare events (records) cost is in it too."""
    overhead_ms: float
    """Median of the pairs' own differences."""
    within_bar: bool


def measure(case: str, rounds: int, block: int, clock: str, tiny: bool, warm_up: int = 3) -> Result:
    """Run one case in a run directory that is thrown away."""
    model, preset, arguments = CASES[case]
    if tiny:
        arguments += TINY
    callback = Interleave(model, block, rounds, warm_up, clock)
    with tempfile.TemporaryDirectory() as folder, registered(model, callback):
        chosen = settings.resolve([*OFF, *arguments], model=model, data="pixels", preset=preset)
        chosen.values["callbacks"].append("beside")
        chosen.values["beside"] = {}
        # long enough for all rounds, without a change of the intervals that follow from the usual budget
        batch_size = chosen.values["data"]["batch_size"]
        chosen.values["kimg"] = (2 + (rounds + warm_up) * block) * batch_size / 1000
        experiment.fit(chosen, Path(folder), say=lambda line: None)
    ours, bare = (np.array(seconds) * 1000 / block for seconds in (callback.ours, callback.bare))
    ours_ms, bare_ms = float(np.median(ours)), float(np.median(bare))
    low, ratio, high = np.quantile(ours / bare, [0.25, 0.5, 0.75])
    overhead = float(np.median(ours - bare))
    return Result(
        case=case,
        batch_size=batch_size,
        pairs=len(ours),
        block=block,
        ours_ms=ours_ms,
        bare_ms=bare_ms,
        ratio=float(ratio),
        ratio_low=float(low),
        ratio_high=float(high),
        ratio_total=float(ours.sum() / bare.sum()),
        overhead_ms=overhead,
        within_bar=bool(ratio <= BAR_RATIO or overhead <= BAR_MS),
    )


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(BARE), choices=list(BARE))
    parser.add_argument("--rounds", type=int, default=30, help="pairs of blocks that are timed")
    parser.add_argument("--block", type=int, default=20, help="steps in a block")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: seconds that this process computed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--fused", action="store_true", help="give the bare loop the fused Adam that ours takes")
    parser.add_argument("--tiny", action="store_true", help="shrink the networks to almost nothing")
    parser.add_argument("--json", type=Path, help="write the results here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    BareLoop.fused = options.fused or None
    results = []
    print(
        f"{'case':14} {'batch':>5} {'ours ms':>9} {'bare ms':>9} {'ratio':>6} {'quartiles':>13} "
        f"{'total':>6} {'over ms':>8}"
    )
    for case, (model, _, _) in CASES.items():
        if model not in options.models:
            continue
        r = measure(case, options.rounds, options.block, options.clock, options.tiny)
        results.append(r)
        print(
            f"{r.case:14} {r.batch_size:5} {r.ours_ms:9.2f} {r.bare_ms:9.2f} {r.ratio:6.3f} "
            f"{r.ratio_low:6.3f}-{r.ratio_high:.3f} {r.ratio_total:6.3f} {r.overhead_ms:8.2f}"
            f"  {'within' if r.within_bar else 'OVER'} the bar",
            flush=True,
        )
    if options.json:
        content = {
            "machine": machine(),
            "clock": options.clock,
            "tiny": options.tiny,
            "fused": options.fused,
            "results": [asdict(r) for r in results],
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0 if all(r.within_bar for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
