"""What scores in training cost, as a share of the run, and what half precision would do to a score.

    python benchmarks/speed/evaluation.py [--models sngan dcgan] [--kimg N] [--threads N] [--json FILE]

The share is of a whole run of the preset `quick`: the six evaluations at the default interval (the untrained model's is
one) against the steps of its budget, both timed in one short run. The drift is of `tiny`: FID of one set of noisy
images, its passes in float32 and in bf16.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from step import machine

from lightning_gen import experiment, records, registry, settings
from lightning_gen.callbacks.metrics import Metrics
from lightning_gen.data.shapes import Shapes
from lightning_gen.metrics.features import FeatureSet
from lightning_gen.metrics.frechet import frechet_distance_from_statistics

EVALUATIONS = 6


def share(model: str, kimg: float) -> dict[str, float]:
    """Seconds of one evaluation, of the steps of the whole budget, and the part of all that scores take."""
    spent, act = [], Metrics.act

    def timed(self: Metrics, *arguments: Any) -> None:
        began = time.perf_counter()
        act(self, *arguments)
        spent.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder, patch.object(Metrics, "act", timed):
        chosen = settings.resolve(
            ["--kimg", str(kimg), "--metrics.every_kimg", str(kimg / 3), "--samples.every_kimg", "0",
             "--checkpoint.every_kimg", "0"],
            model=model, preset="quick", logger=("none",),
        )  # fmt: skip
        budget = registry.load(model).recipes["quick"]["kimg"]
        experiment.fit(chosen, Path(folder) / "run", say=lambda line: None, show_progress=False)
        found = records.read(Path(folder) / "run" / "metrics.jsonl")
    rate = median(record["images_per_second"] for record in found if "images_per_second" in record)
    one, steps = median(spent), budget * 1000 / rate
    return {"evaluation": one, "steps": steps, "share": EVALUATIONS * one / (EVALUATIONS * one + steps)}


def drift(n: int = 4000) -> dict[str, float]:
    """FID by tiny of noisy against clean images, in both precisions."""
    tiny = registry.make("tiny", "extractors")
    clean = Shapes(split="train").read(torch.arange(n).numpy())["image"]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = (clean.float() + 12 * noise).clamp(0, 255).to(torch.uint8)
    found = {}
    for name, half in (("float32", False), ("bf16", True)):
        sets = []
        for pictures in (clean, noisy):
            kept = FeatureSet(n, ["statistics"])
            for rows in pictures.split(500):
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                    kept.add(tiny.extract(rows), rows)
            sets.append(kept.statistics)
        found[name] = float(frechet_distance_from_statistics(*sets))
    found["relative"] = abs(found["bf16"] / found["float32"] - 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["dcgan", "sngan", "progan", "gan"])
    parser.add_argument("--kimg", type=float, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    moved = drift()
    print(f"FID by tiny: float32 {moved['float32']:.5f}, bf16 {moved['bf16']:.5f}, {moved['relative']:.1e} apart")
    shares = {}
    for model in options.models:
        shares[model] = one = share(model, options.kimg)
        print(
            f"{model:8} one evaluation {one['evaluation']:5.2f} s, steps of the budget {one['steps']:6.0f} s, "
            f"scores take {one['share']:.1%}",
            flush=True,
        )
    if options.json:
        content = {"machine": machine(), "share": shares, "drift": moved}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
