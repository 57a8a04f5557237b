"""Reads logs into records: our own `metrics.jsonl`, and files with a whole run on each line.

The second form is that of StudioGAN's published logs, one JSON object a run: `run`, `losses_step_d_g` (list of
[step, discriminator loss, generator loss]), `fid_step_value` and other lists of [step, value].
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_gen import jsonl
from lightning_gen.errors import UserError
from lightning_gen.watch.record import Record, of_family
from lightning_gen.watch.watch import standard

GZIP = b"\x1f\x8b"

SERIES = {"fid_step_value": "fid", "inception_score_step_value": "is"}
"""Lists of [step, value] in a whole run on one line, by the name of the score."""


@dataclass(frozen=True)
class Log:
    """One run of a log file.

    Args:
        run: Its name.
        records: In order.
        budget: Position at which it was to end, 0 where the log does not say.
    """

    run: str
    records: list[Record]
    budget: float = 0.0


def families() -> list[str]:
    """Every field, or family of fields, that some rule reads."""
    return sorted({name for rule in standard() for name in rule.reads + rule.also})


def read(path: Path) -> list[Log]:
    """The runs of a file (plain or gzip) or of a run directory. Lines that cannot be read are skipped.

    Raises:
        UserError: There is no such file, or it is no log of either form.
    """
    file = path / "metrics.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{path} is no run directory: it has no metrics.jsonl" if path.is_dir() else f"there is no file {path}"
        )
    whole: list[Log] = []
    own: list[dict[str, Any]] = []
    try:
        for one in jsonl.objects(_lines(file)):
            if any(key in one for key in ("losses_step_d_g", *SERIES)):
                whole.append(_whole_run(one, f"{file.name}:{len(whole) + 1}"))
            elif _number(one.get("images_seen")) is not None or _number(one.get("step")) is not None:
                own.append(one)
    except OSError as reason:
        raise UserError(f"{path} cannot be read: {reason.strerror or reason}") from reason
    logs = [log for log in whole if log.records]
    if own:
        logs += _own_run(own, file)
    if not logs:
        raise UserError(
            f"{path} is no log of a run: a line of metrics.jsonl has images_seen or step, and losses "
            "(loss_d, loss_g) or scores (fid/tiny), "
            "a line with a whole run has losses_step_d_g or fid_step_value"
        )
    return logs


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        if not packed:
            yield from raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield from unpacked
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return  # still being written, or cut short: what came before counts


def _whole_run(one: Mapping[str, Any], fallback: str) -> Log:
    at: dict[float, dict[str, float]] = {}
    for step, loss_d, loss_g in _rows(one.get("losses_step_d_g"), 3):
        at.setdefault(step, {}).update(loss_d=loss_d, loss_g=loss_g)
    for key, score in SERIES.items():
        for step, value in _rows(one.get(key), 2):
            at.setdefault(step, {})[score] = value
    # a resumed run repeats steps: the later one counts
    return Log(str(one.get("run", fallback)), [Record(step, at[step], "step") for step in sorted(at)])


def _rows(rows: Any, length: int) -> Iterator[list[float]]:
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, list) and len(row) == length and _number(row[0]) is not None:
            numbers = [float("nan") if value is None else _number(value) for value in row]
            if None not in numbers:
                yield numbers  # type: ignore[misc]


def _own_run(own: list[dict[str, Any]], file: Path) -> list[Log]:
    unit = "images" if any(_number(one.get("images_seen")) is not None for one in own) else "step"
    key = "images_seen" if unit == "images" else "step"
    own = [one for one in own if _number(one.get(key)) is not None]
    own = jsonl.current({**one, "images_seen": one[key], "attempt": _number(one.get("attempt")) or 0} for one in own)
    known = families()
    records = []
    for one in own:
        # null is how a record says that a number was not finite
        values = {name: float("nan") if v is None else _number(v) for name, v in one.items() if of_family(name, known)}
        records.append(Record(one[key], {k: v for k, v in values.items() if v is not None}, unit))  # type: ignore[arg-type]
    if not any(record.values for record in records):
        return []
    folder = file.absolute().parent
    return [Log(folder.name if file.name.startswith("metrics.jsonl") else file.name, records, _budget(folder))]


def _budget(folder: Path) -> float:
    """Images that the run is to see, from its `run.yaml`."""
    settings = folder / "run.yaml"
    if not settings.is_file():
        return 0.0
    import yaml

    try:
        found = yaml.safe_load(settings.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return 0.0
    kimg = _number(found.get("kimg")) if isinstance(found, dict) else None
    return 1000 * kimg if kimg else 0.0


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
