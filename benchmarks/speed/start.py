"""From `lgen fit` to its first training step, beside the bare import of what it stands on.

    python benchmarks/speed/start.py [--times N]

Each is a process of its own, in turn; the files are in the system's cache after the first round, which is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytorch_lightning import Callback

BEGAN = "LGEN_BENCHMARK_BEGAN"
IMPORTS = {
    "import torch, pytorch_lightning": "import torch, pytorch_lightning",
    "import torch, pytorch_lightning, torchvision": "import torch, pytorch_lightning, torchvision",
}
FIT = (
    "fit --model dcgan --preset quick --kimg 0.032 --metrics.every_kimg 0 --samples.every_kimg 0 "
    "--plugin {file}:FirstStep --callback FirstStep --out {out}"
)


class FirstStep(Callback):
    """Says how long ago the process was asked for, and leaves."""

    def on_train_batch_start(self, *arguments: object) -> None:
        print(f"first step after {time.time() - float(os.environ[BEGAN])}", flush=True)
        os._exit(0)


def imported(code: str) -> float:
    began = time.time()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.time() - began


def fitted() -> float:
    with tempfile.TemporaryDirectory() as folder:
        words = FIT.format(file=Path(__file__).resolve(), out=Path(folder) / "run").split()
        environment = {**os.environ, BEGAN: str(time.time())}
        done = subprocess.run(
            [sys.executable, "-m", "lightning_gen", *words], env=environment, capture_output=True, text=True
        )
    line = next((line for line in done.stdout.splitlines() if line.startswith("first step after")), None)
    if line is None:
        raise SystemExit(done.stdout + done.stderr)
    return float(line.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in (*IMPORTS, "lgen fit, first step")}
    for turn in range(options.times + 1):
        seconds = [imported(code) for code in IMPORTS.values()] + [fitted()]
        for name, value in zip(found, seconds, strict=True):
            if turn:
                found[name].append(value)
    bare = statistics.median(found[next(iter(IMPORTS))])
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"{name:46} {middle:6.2f} s ({min(values):.2f}-{max(values):.2f})  ratio {middle / bare:.2f}")


if __name__ == "__main__":
    main()
