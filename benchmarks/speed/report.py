"""How large a report is, how long it takes to write, and how long Chromium takes to open it.

    python benchmarks/speed/report.py [--records 10000] [--grids 24]

Needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium. "Opened" ends when the page's own script
has drawn every chart and a frame was painted.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
import yaml
from selenium import webdriver

from lightning_gen import files, images, report

PAINTED = """
const done = arguments[0];
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
"""


def make(folder: Path, records: int, grids: int) -> None:
    """A run with all values of an adversarial model and grids of noise, which compress worst."""
    (folder / "samples").mkdir(parents=True)
    settings = {"model": {"name": "dcgan"}, "data": {"name": "shapes"}, "preset": "quick", "kimg": 1000, "seed": 0}
    files.write(folder / "run.yaml", yaml.safe_dump(settings))
    names = ("loss_d", "loss_g", "logits_real", "logits_fake", "grad_norm_d", "grad_norm_g", "images_per_second")
    noise = torch.randn(records, len(names), generator=torch.Generator().manual_seed(0)).exp().tolist()
    with (folder / "metrics.jsonl").open("w") as file:
        for i, row in enumerate(noise):
            record = {"images_seen": 100 * i, "step": i, "attempt": 0, **dict(zip(names, row, strict=True))}
            if i % (records // 50) == 0:
                record |= {"fid/tiny": 9 * math.exp(-i / records), "diversity": 0.9}
            file.write(json.dumps(record) + "\n")
    for i in range(grids):
        pixels = torch.randint(256, (3, 272, 272), dtype=torch.uint8)
        images.save_png(pixels, folder / "samples" / f"{100 * records * i // grids:012d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--grids", type=int, default=24)
    arguments = parser.parse_args()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        make(run, arguments.records, arguments.grids)
        page = run / "report.html"
        written, opened = [], []
        for _ in range(5):
            began = time.perf_counter()
            files.write(page, report.page([report.read(run)]))
            written.append(time.perf_counter() - began)
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        for _ in range(5):
            browser.get(page.as_uri())
            opened.append(browser.execute_async_script(PAINTED) / 1000)
        browser.quit()
        print(
            f"{arguments.records} records, {arguments.grids} grids: {page.stat().st_size / 1e6:.2f} MB, "
            f"written in {statistics.median(written):.2f} s, opened in {statistics.median(opened):.2f} s "
            f"(medians of 5; slowest {max(written):.2f} and {max(opened):.2f} s)"
        )


if __name__ == "__main__":
    main()
