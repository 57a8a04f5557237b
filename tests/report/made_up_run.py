"""A run directory as `lgen fit` leaves it, with records that nobody trained for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

SETTINGS: dict[str, Any] = {
    "model": {"name": "dcgan", "image_shape": [3, 32, 32], "lr": 0.0004},
    "preset": "quick",
    "data": {"name": "shapes", "batch_size": 32},
    "kimg": 100,
    "seed": 3,
    "trainer": {"accelerator": "cpu", "precision": "32-true"},
}


def make(folder: Path, *, records: int = 200, grids: int = 5, stopped: bool = False, kimg: float = 100) -> Path:
    """A run of `kimg` thousand images; `stopped` by the watch or not."""
    (folder / "samples").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    (folder / "run.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "passport.json").write_text(
        json.dumps({"extractor": "tiny", "n_fake": 2000, "libraries": {"torch": "2"}})
    )
    lines: list[dict[str, Any]] = [{"images_seen": 0, "step": 0, "fid/tiny": 9.0, "is/tiny": 1.0, "attempt": 0}]
    for i in range(1, records + 1):
        at = round(1000 * kimg * i / records)
        wave = math.sin(i / 7)
        lines.append({"images_seen": at, "step": i, "loss_d": 1.3 + wave, "loss_g": 0.7 - wave, "attempt": 0})
        lines[-1] |= {"grad_norm_d": 10 + 9 * wave, "images_per_second": 500.0, "diversity": None if i == 9 else 0.9}
        if i % max(1, records // 5) == 0:
            lines.append(
                {"images_seen": at, "step": i, "fid/tiny": 9.0 / (1 + i / records), "is/tiny": 1.2, "attempt": 0}
            )
            lines[-1] |= {"is/tiny/std": 0.1, "mode_coverage": 0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = [{"rule": "far-from-history", "severity": "warn", "action": "warn", "message": "at 40 kimg: <odd>"}]
    if stopped:
        events.append(
            {"rule": "mode-collapse", "severity": "stop", "action": "stop", "message": "at 100 kimg: one image"}
        )
    told = [{"images_seen": 40000, "step": 1, "values": {}, "attempt": 0, **event} for event in events]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    for i in range(grids):
        at = round(1000 * kimg * i / max(1, grids - 1))
        Image.new("RGB", (64, 64), (40 * i % 256, 80, 160)).save(folder / "samples" / f"{at:012d}.png")
    return folder
