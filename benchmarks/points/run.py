"""Mixtures of Gaussians, on which lost modes can be counted: which models cover all of them?

    python benchmarks/points/run.py OUT [--seeds 3] [--figure FILE.png]

Each model's preset `points` with its whole budget, on 8 Gaussians on a ring and on 25 on a grid; a table of what
`modes_covered` and `high_quality` end at, and a figure with the samples of seed 0. Runs that are finished in OUT are
not run again.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from lightning_gen import checkpoints, records
from lightning_gen.data.points import Layout, Points

ENTRIES = {
    "gan, minimax, SGD": ["--model", "gan", "--model.loss", "minimax", "--model.optimizer", "sgd", "--model.lr", "0.1"],
    "gan, minimax, Adam": ["--model", "gan", "--model.loss", "minimax"],
    "wgan-gp": ["--model", "wgan-gp"],
    "r3gan": ["--model", "r3gan"],
}
LAYOUTS: tuple[Layout, ...] = ("ring-8", "grid-25")


def fit(entry: str, layout: Layout, seed: int, out: Path) -> Path:
    """The finished run."""
    run = out / f"{entry.replace(', ', '-')}-{layout}-{seed}"
    if not (run / "samples").exists() or "modes_covered" not in records.read(run / "metrics.jsonl")[-1]:
        arguments = [*ENTRIES[entry], "--preset", "points", "--data", "points", "--data.layout", layout]
        # a lost mode is what this is about: the watch may speak, not stop
        arguments += ["--seed", str(seed), "--logger", "none", "--watch.action", "warn", "--out", str(run)]
        subprocess.run([sys.executable, "-m", "lightning_gen", "fit", *arguments], check=True, stdout=sys.stderr)
    return run


def told(values: list[float], form: str) -> str:
    """Mean, and the range of several."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{statistics.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    figure, axes = plt.subplots(len(LAYOUTS), len(ENTRIES) + 1, figsize=(2.4 * (len(ENTRIES) + 1), 2.5 * len(LAYOUTS)))
    print("| data | model | kimg | modes covered | within three deviations |\n|---|---|---|---|---|")
    for row, layout in zip(axes, LAYOUTS, strict=True):
        real = Points(layout)
        shown = {"data": real.read(range(2500))["image"].flatten(1)}  # type: ignore[arg-type]
        for entry in ENTRIES:
            runs = [fit(entry, layout, seed, arguments.out) for seed in range(arguments.seeds)]
            last = [records.read(run / "metrics.jsonl")[-1] for run in runs]
            cells = [
                layout,
                entry,
                f"{last[0]['images_seen'] / 1000:.0f}",
                told([one["modes_covered"] for one in last], ".3g") + f" of {real.num_classes}",
                told([one["high_quality"] for one in last], ".0%"),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
            model, _ = checkpoints.load_model(checkpoints.find(runs[0]))
            shown[entry] = model.sample(2500).flatten(1)
        for axis, (title, points) in zip(row, shown.items(), strict=True):
            axis.scatter(*points.T, s=1, alpha=0.3, linewidths=0)
            axis.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", xticks=[], yticks=[], title=title)
    if arguments.figure:
        figure.tight_layout()
        figure.savefig(arguments.figure, dpi=80)


if __name__ == "__main__":
    main()
