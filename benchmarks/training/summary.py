"""One table and one figure of finished runs, read off their records.

python benchmarks/training/summary.py RUN [RUN ...] [--figure FILE.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from lightning_gen import records

COLUMNS = ("fid/tiny", "is/tiny", "mode_coverage", "on_manifold")


def curve(run: Path, key: str) -> list[tuple[float, float]]:
    """(kimg, value) of one score of a run."""
    kept = records.read(run / "metrics.jsonl")
    return [(r["images_seen"] / 1000, r[key]) for r in kept if r.get(key) is not None]


def row(run: Path) -> list[str]:
    settings = yaml.safe_load((run / "run.yaml").read_text())
    scores = {key: curve(run, key) for key in COLUMNS}
    fid = scores["fid/tiny"]
    speeds = sorted(value for _, value in curve(run, "images_per_second"))
    cells = [settings["model"]["name"], settings["data"]["name"], str(settings["seed"]), f"{fid[-1][0]:g}"]
    cells += [
        f"{fid[0][1]:.2f}",
        f"{fid[-1][1]:.2f}",
        f"{min(v for _, v in fid):.2f}",
        f"{scores['is/tiny'][-1][1]:.2f}",
    ]
    cells += [f"{int(scores['mode_coverage'][-1][1])}" if scores["mode_coverage"] else "-"]
    cells += [f"{scores['on_manifold'][-1][1]:.1%}" if scores["on_manifold"] else "-"]
    return [*cells, f"{speeds[len(speeds) // 2]:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--figure", type=Path, help="write fid/tiny over kimg of all runs")
    options = parser.parse_args()
    heads = ["model", "data", "seed", "kimg", "fid/tiny at 0", "final", "best", "is/tiny", "modes of 48", "on manifold"]
    heads += ["images/s, median"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for run in options.runs:
        print("| " + " | ".join(row(run)) + " |")
    if options.figure:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        for run in options.runs:
            settings = yaml.safe_load((run / "run.yaml").read_text())
            label = f"{settings['model']['name']} on {settings['data']['name']}, seed {settings['seed']}"
            axes.plot(*zip(*curve(run, "fid/tiny"), strict=True), marker=".", label=label)
        axes.set(xlabel="real images seen (thousands)", ylabel="fid/tiny", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(options.figure, dpi=120)


if __name__ == "__main__":
    main()
