"""kill -9 at random moments, resume, and compare the final weights with those of a run that nobody touched.

    python benchmarks/reliability/kill.py --times 100

Each trial is a run of its own: started, killed at a moment drawn uniformly over the time that the untouched run took
(start, reference, steps, scores, checkpoint writes), resumed as often as it takes, and compared bit for bit: weights,
averages, optimizer states, clock. Checkpoints are written at every fourth step, so that many kills hit a write.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from forked import finish, start

from lightning_gen import checkpoints

RUNS = {
    "dcgan": ["--model", "dcgan", "--preset", "quick", "--model.width", "4"],
    "progan": ["--model", "progan", "--preset", "quick", "--model.width", "8", "--model.width_base", "32"],
}
RUNS["progan"] += ["--model.fade_kimg", "0.2", "--model.stable_kimg", "0.1"]
SETTINGS = ["--kimg", "1.2", "--data.size", "96", "--data.batch_size", "16", "--metrics.samples", "32"]
SETTINGS += ["--checkpoint.every_kimg", "0.064", "--samples.count", "4", "--logger", "none"]


def final(run: Path) -> dict[str, Any]:
    """All that a finished run's last checkpoint promises to be equal."""
    content = checkpoints.read(run / "checkpoints" / "last.ckpt")
    return {"weights": content["state_dict"], "optimizers": content["optimizer_states"]}


def equal(a: Any, b: Any) -> bool:
    """To the bit, whatever it is."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def trial(model: str, run: Path, seconds: float) -> tuple[bool, str]:
    """Start, kill after `seconds`, resume; whether the run came to its end, and what was on disk when it was killed."""
    child = start(*RUNS[model], *SETTINGS, "--out", str(run))
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    killed = finish(child) == -signal.SIGKILL
    folder = run / "checkpoints"
    left = [path.name for path in folder.iterdir()] if folder.exists() else []
    when = (
        "after its end"
        if not killed
        else "in a write"
        if any(n.startswith((".last", ".best")) for n in left)
        else "between writes"
    )
    if not left:
        when = "before its first checkpoint"
    resumed = ["--resume", str(run)] if (run / "run.yaml").exists() else [*RUNS[model], *SETTINGS, "--out", str(run)]
    return finish(start(*resumed)) == 0, when


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    failures, tally = [], {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LGEN_CACHE"] = f"{folder}/cache"
        took, expected = {}, {}
        for model in RUNS:
            for name in ("warm", "straight"):  # the first one fills the cache
                began = time.monotonic()
                assert finish(start(*RUNS[model], *SETTINGS, "--out", f"{folder}/{model}-{name}")) == 0
                took[model] = time.monotonic() - began
            expected[model] = final(Path(folder) / f"{model}-straight")
        for i in range(arguments.times):
            model = list(RUNS)[i % len(RUNS)]
            run = Path(folder) / f"{model}-{i}"
            moment = moments.uniform(0.05, 1.0) * took[model]
            finished, when = trial(model, run, moment)
            tally[when] = tally.get(when, 0) + 1
            if not finished or not equal(final(run), expected[model]):
                failures.append(f"trial {i}, {model}, killed after {moment:.2f} s {when}")
            print(f"\r{i + 1} of {arguments.times}, {len(failures)} failed", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"{arguments.times - len(failures)} of {arguments.times} resumed runs are bit-identical")
    print("killed " + ", ".join(f"{when}: {n}" for when, n in sorted(tally.items())))
    for failure in failures:
        print(f"FAILED  {failure}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
