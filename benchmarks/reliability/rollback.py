"""Runs whose learning rate is too high, with `--watch.action rollback`, beside the same runs at the right rate.

    python benchmarks/reliability/rollback.py [--seeds 5] [--models sngan,…] [--factors 10,30] [--cuts 0.3,0.1]

Each model's quick preset at its own rate, and at `factor` times it, each rollback cutting rates by `cut`. `saved`
counts the runs whose final fid/tiny is at most 1.2 times that of the healthy run of the same seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from forked import finish, start

from lightning_gen import checkpoints, records, registry

NEAR = 1.2
"""Most that a saved run's final score may be, over the healthy run's."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    score: float | None
    """The last fid/tiny; None where the run was stopped before its end."""
    rollbacks: int
    rules: tuple[str, ...]


def run(model: str, lr: float, seed: int, kimg: float, folder: Path, cut: float | None = None) -> Ended:
    """One fit to its end; with `cut` it may be rolled back."""
    arguments = ["--model", model, "--preset", "quick", "--seed", str(seed), "--kimg", str(kimg), "--out", str(folder)]
    arguments += ["--model.lr", str(lr), "--logger", "none", "--samples.count", "16"]
    arguments += ["--watch.action", "rollback", "--watch.lr_cut", str(cut)] if cut else ["--watch.action", "warn"]
    code = finish(start(*arguments, log=Path(f"{folder}.log")))
    if code not in (0, 3):
        raise SystemExit(f"{folder}: exit code {code}, see {folder}.log")
    events = folder / "events.jsonl"
    heard = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    scores = [r["fid/tiny"] for r in records.read(folder / "metrics.jsonl") if "fid/tiny" in r]
    state = checkpoints.read(folder / "checkpoints" / "last.ckpt")["state_dict"]["_extra_state"]
    finished = code == 0 and state["images_seen"] >= 1000 * kimg
    score = scores[-1] if finished else None
    return Ended(score, state["rollbacks"], tuple(e["rule"] for e in heard if e["severity"] == "stop"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", default="sngan")
    parser.add_argument("--factors", default="10,30")
    parser.add_argument("--cuts", default="0.3,0.1")
    parser.add_argument("--kimg", type=float, default=15)
    parser.add_argument("--out", type=Path, help="keeps the runs here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("| run | healthy, fid/tiny | rolled back, fid/tiny | saved | rollbacks, median | rules |")
        print("|---|---|---|---|---|---|", flush=True)
        for model in arguments.models.split(","):
            lr = registry.load(model).presets["quick"]["lr"]
            seeds = range(arguments.seeds)
            healthy = [run(model, lr, s, arguments.kimg, folder / f"{model}-1-{s}") for s in seeds]
            choices = itertools.product(
                *(map(float, listed.split(",")) for listed in (arguments.factors, arguments.cuts))
            )
            for factor, cut in choices:
                names = [folder / f"{model}-{factor:g}-{cut:g}-{s}" for s in seeds]
                sick = [run(model, lr * factor, s, arguments.kimg, names[s], cut) for s in seeds]
                print(sick, file=sys.stderr, flush=True)
                saved = sum(
                    b.score is not None and a.score is not None and b.score <= NEAR * a.score
                    for a, b in zip(healthy, sick, strict=True)
                )
                cells = [
                    f"{model}, learning rate x {factor:g}, cut by {cut:g}",
                    ", ".join("-" if e.score is None else f"{e.score:.2f}" for e in healthy),
                    ", ".join("stopped" if e.score is None else f"{e.score:.2f}" for e in sick),
                    f"{saved} of {len(sick)}",
                    f"{statistics.median(e.rollbacks for e in sick):g}",
                    ", ".join(sorted({rule for e in sick for rule in e.rules})) or "-",
                ]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
