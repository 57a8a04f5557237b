"""What one training step needs at the resolutions of the papers, and what recomputing and accumulating save.

    python benchmarks/speed/memory.py [--cases progan-1024 stylegan2-256] [--json FILE]

Each way is a process of its own that takes two steps as `lgen fit` takes them, with the preset `paper`, on the CPU;
its peak is the system's own account of its memory, Python, PyTorch, weights and optimizers included. On a GPU
`torch.cuda.max_memory_allocated` is the account.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from step import GROWN, OFF, machine, registered

from lightning_gen import experiment, settings
from lightning_gen.clock import Clock

CASES = {
    # (model, preset, resolution, batch size): the paper's own at that resolution, and what two cores can wait for
    "progan-1024": ("progan", "paper", 1024, 3),
    "stylegan2-256": ("stylegan2", "paper", 256, 4),
}

WAYS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "recompute": ("--update.recompute", "true"),
    "accumulate": ("--update.accumulate", "{batch}"),
    "both": ("--update.recompute", "true", "--update.accumulate", "{batch}"),
}

STEPS = 2


class FullSize(pl.Callback):
    """Past every fade-in, and the seconds of the steps."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        pl_module.clock = Clock(100 * GROWN)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_train_batch_end(self, *args: Any) -> None:
        self.ends.append(time.perf_counter())


def measure(case: str, way: str) -> dict[str, float]:
    model, preset, resolution, batch = CASES[case]
    arguments = [word.format(batch=batch) for word in WAYS[way]]
    arguments += ["--model.image_shape", f"[3, {resolution}, {resolution}]", "--data.resolution", str(resolution)]
    arguments += ["--data.batch_size", str(batch), "--data.length", "32", "--watch.every_kimg", "0"]
    callback = FullSize()
    with tempfile.TemporaryDirectory() as folder, registered(model, callback):
        chosen = settings.resolve([*OFF, *arguments], model=model, data="pixels", preset=preset)
        chosen.values["callbacks"] = ["beside"]
        chosen.values["beside"] = {}
        chosen.values["logger"] = ["none"]
        chosen.values["kimg"] = STEPS * batch / 1000
        experiment.fit(chosen, Path(folder) / "run", say=lambda line: None, show_progress=False)
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"peak_gib": peak, "step_seconds": callback.ends[-1] - callback.ends[-2]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for case in options.cases:
            for way in options.ways:
                found.setdefault(case, {})[way] = one = pool.apply(measure, (case, way))
                print(f"{case:14} {way:11} {one['peak_gib']:6.2f} GiB {one['step_seconds']:7.1f} s a step", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "cases": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
