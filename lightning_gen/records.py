"""`metrics.jsonl` and `events.jsonl`: what a run says of itself, one JSON object a line.

Every record carries `images_seen`, `step` and `attempt`. An attempt is one start of the run (it counts resumes and
rollbacks and never enters the numerics); what an earlier attempt wrote beyond the point where a later one began is
superseded, and `read` leaves it out.
"""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from lightning_gen import jsonl


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a run in order, without superseded ones and without a last line that a crash cut short."""
    return jsonl.current(_parse(path))


def next_attempt(folder: Path) -> int:
    """The number of the attempt that starts now in a run directory: 0 for a new run."""
    written = [record for name in ("metrics.jsonl", "events.jsonl") for record in _parse(folder / name)]
    return 1 + max((record["attempt"] for record in written), default=-1)


class RecordLogger(Logger):
    """Appends to `metrics.jsonl`. Values that are no finite number are written as null: JSON knows no NaN."""

    def __init__(self, folder: Path, attempt: int):
        super().__init__()
        self.folder = folder
        self.attempt = attempt

    @property
    def name(self) -> str:
        """Of the run: its directory's."""
        return self.folder.name

    @property
    def version(self) -> int:
        """The attempt."""
        return self.attempt

    @property
    def save_dir(self) -> str:
        """The run directory."""
        return str(self.folder)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Settings stand in `run.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one record; `step` is the clock in images, and the record's own `step` counts generator updates."""
        append(self.folder / "metrics.jsonl", {"images_seen": step, **metrics, "attempt": self.attempt})


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line, after ending a line that a crash cut short."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(clean).encode() + b"\n")


def _parse(path: Path) -> list[dict[str, Any]]:
    return list(jsonl.objects(path.read_bytes().splitlines())) if path.exists() else []
