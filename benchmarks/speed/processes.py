"""Images a second of `lgen fit` with one process and with two, at the same batch of all together.

    python benchmarks/speed/processes.py [--models dcgan wgan-gp] [--kimg N] [--rounds N] [--json FILE]

One process with one thread, one with two, and two with one each, in turn, on a machine with nothing else to do: the
median of what the records of the last half of each run say.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from step import OFF, machine

from lightning_gen import records

WAYS = {
    "1 process, 1 thread": (1, 1),
    "1 process, 2 threads": (1, 2),
    "2 processes, 1 thread each": (2, 1),
}


def measure(model: str, processes: int, threads: int, kimg: float) -> float:
    """Images a second."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "lightning_gen", "fit", "--model", model, "--preset", "quick", *OFF]
        command += ["--watch.every_kimg", "0", "--logger", "none", "--kimg", str(kimg), "--out", str(run), "-q"]
        command += ["--trainer.accelerator", "cpu", "--trainer.devices", str(processes)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        found = records.read(run / "metrics.jsonl")
    rates = [record["images_per_second"] for record in found if "images_per_second" in record]
    return median(rates[len(rates) // 2 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["dcgan", "wgan-gp"])
    parser.add_argument("--kimg", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for model in options.models:
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way, (processes, threads) in WAYS.items():
                rates[way].append(measure(model, processes, threads, options.kimg))
        found[model] = {way: median(seen) for way, seen in rates.items()}
        for way, rate in found[model].items():
            print(f"{model:10} {way:28} {rate:8.1f} images/s", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "images_per_second": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
