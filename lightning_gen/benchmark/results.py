"""`benchmarks/results/SUITE.jsonl`: what the runs of a suite came to, one JSON object for each (entry, seed).

Lines are only ever added. A row that was run again stands further down, and that line counts.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_gen.errors import UserError
from lightning_gen.metrics.passport import Passport

WEIGHTS = ("final", "best", "raw")
"""Which weights drew the samples, in the order in which tables show them."""

STATES = ("done", "failed")


@dataclass(frozen=True)
class Evaluation:
    """Scores of one set of weights under one protocol."""

    weights: str
    """`final`: the averaged model at the end; `best`: the averaged model of the checkpoint with the best score in
    training; `raw`: the weights themselves at the end."""
    images_seen: int
    scores: Mapping[str, float | None]
    """Under the names that records use, e.g. `fid/tiny`; None where there is no finite number."""
    passport: Passport

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """The inverse of what `ResultRow.to_json` makes of it."""
        return cls(**{**_known(cls, values), "passport": Passport.from_json(values["passport"])})


@dataclass(frozen=True)
class ResultRow:
    """One run of a suite: an entry with a seed."""

    suite: str
    entry: str
    """The row's name in the suite; several entries may use one model."""
    model: str
    """The registered name."""
    seed: int
    state: str
    """`done` or `failed`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the entry sets, as the command line spells it, e.g. `{"model.width": 32}`; of plugins class and digest."""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    """All settings that shape the weights, those of the preset and of the data too; none in lines from before this was
    kept."""
    reason: str | None = None
    """Why it failed, in one line."""
    kimg: float | None = None
    """Thousands of images that training saw."""
    seconds: float | None = None
    """Of training, by the clock on the wall."""
    images_per_second: float | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Trainable ones of each network."""
    machine: str = ""
    finished_at: str = ""
    """ISO 8601, UTC."""
    evaluations: Sequence[Evaluation] = ()
    curve: Sequence[Mapping[str, float | None]] = ()
    """Scores during training, each record with its `images_seen`."""
    grid: str | None = None
    """Picture of samples, relative to the folder of the results."""
    fingerprint: str = ""
    """Of all settings that shape the weights, as `suite.Row` computes it; another value is another run."""
    metrics: Sequence[str] = ()
    """What was to be scored, whether the data allows it or not; none in lines from before this was kept."""
    split: str | None = None
    """The part of the data that was asked for, as the settings spell it; None where the data has no parts."""

    def to_json(self) -> dict[str, Any]:
        """All fields in JSON's own types; numbers that are not finite become null, for JSON knows no NaN."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["evaluations"] = [
            {**{f.name: getattr(e, f.name) for f in dataclasses.fields(e)}, "passport": e.passport.to_json()}
            for e in self.evaluations
        ]
        return {name: _plain(value) for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ResultRow:
        """The inverse of `to_json`; fields of a later version that this one does not know are left out.

        Raises:
            KeyError, TypeError, ValueError: these are no values of a row.
        """
        known = _known(cls, values)
        if known["state"] not in STATES:
            raise ValueError(f"state {known['state']!r}, not one of {', '.join(STATES)}")
        evaluations = tuple(Evaluation.from_json(e) for e in values.get("evaluations", ()))
        lists = {name: tuple(values.get(name, ())) for name in ("curve", "metrics")}
        return cls(**{**known, "evaluations": evaluations, **lists})


def read(path: Path) -> list[ResultRow]:
    """The newest row of each (entry, seed), in the order of their names; none where there is no file.

    A line that a crash cut short is left out: its row was not finished, and will be run again.

    Raises:
        UserError: the file cannot be read, or a line is whole, but not a row.
    """
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as failure:
        raise UserError(f"{path} cannot be read: {failure.strerror}") from failure
    newest: dict[tuple[str, int], ResultRow] = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
        except ValueError:
            continue
        try:
            row = ResultRow.from_json(values)
        except (AttributeError, KeyError, TypeError, ValueError) as fault:
            reason = f"it lacks {fault}" if isinstance(fault, KeyError) else str(fault)
            raise UserError(f"{path}, line {number}, is no result row: {reason}") from fault
        newest[row.entry, row.seed] = row
    return [newest[key] for key in sorted(newest)]


def append(path: Path, row: ResultRow) -> None:
    """Add a row that is on the disk when this returns, after ending a line that a crash cut short.

    Raises:
        UserError: the disk is full, or the file cannot be written; what a full disk took of the row is left out when
            the file is read.
    """
    line = json.dumps(row.to_json(), allow_nan=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as failure:
        raise UserError(f"{path} cannot be written: {failure.strerror}") from failure


def by_protocol(rows: Iterable[ResultRow]) -> dict[str, list[tuple[ResultRow, Evaluation]]]:
    """Evaluations of finished rows under the digest of their protocol: only within one may scores be ranked."""
    groups: dict[str, list[tuple[ResultRow, Evaluation]]] = {}
    for row in rows:
        if row.state == "done":
            for evaluation in row.evaluations:
                groups.setdefault(evaluation.passport.digest(), []).append((row, evaluation))
    return groups


def _known(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are fields of `cls`; a KeyError names the first required one that is missing."""
    missing = dataclasses.MISSING
    required = [f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing]
    known = {name: values[name] for name in required}
    return known | {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
