"""What a run directory says of itself, ready to be shown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightning_gen import jsonl
from lightning_gen.errors import UserError

NO_VALUES = ("images_seen", "step", "attempt")
"""Fields of a record that say where it stands."""


@dataclass(frozen=True)
class Event:
    """One line of `events.jsonl`."""

    kimg: float
    rule: str
    severity: str
    action: str
    message: str
    attempt: int


@dataclass(frozen=True)
class Run:
    """One run, finished or not."""

    name: str
    folder: Path
    settings: dict[str, Any]
    curves: dict[str, list[tuple[float, float]]]
    """Name to (kimg, value), in order; values that were not finite are left out."""
    events: tuple[Event, ...]
    grids: tuple[tuple[float, Path], ...]
    """(kimg, PNG), in order."""
    passport: dict[str, Any]
    """What the scores were measured with; empty where none was."""
    attempt: int
    """Of the newest record."""

    @property
    def kimg(self) -> float:
        """How far it is."""
        return max((points[-1][0] for points in self.curves.values()), default=0.0)

    @property
    def budget(self) -> float:
        """Thousands of images that it shall see."""
        return float(self.settings.get("kimg", 0.0))

    @property
    def training_seconds(self) -> float:
        """Time in training steps; scores, grids and checkpoints come on top."""
        speed = self.curves.get("images_per_second", [])
        begins = [0.0, *(at for at, _ in speed)]
        return sum(1000 * (at - begin) / value for begin, (at, value) in zip(begins, speed, strict=False) if value > 0)

    @property
    def ranking(self) -> str | None:
        """The score that the run is judged by: its first Fréchet distance."""
        return next((name for name in sorted(self.curves) if name.startswith("fid/")), None)

    @property
    def best(self) -> tuple[float, float] | None:
        """(kimg, value) of the lowest Fréchet distance."""
        return min(self.curves[self.ranking], key=lambda point: point[1]) if self.ranking else None

    @property
    def best_grid(self) -> int | None:
        """Number of the grid nearest to where the score was best."""
        if self.best is None or not self.grids:
            return None
        at = self.best[0]
        return min(range(len(self.grids)), key=lambda i: abs(self.grids[i][0] - at))

    @property
    def state(self) -> str:
        """finished, stopped by the watch, or how far it is."""
        if self.kimg >= self.budget:
            return "finished"
        # an earlier attempt's stop is history: the run was resumed
        stops = [event for event in self.events if event.action == "stop" and event.attempt >= self.attempt]
        return f"stopped by the watch ({stops[-1].rule})" if stops else "not finished"


def read(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
        UserError: no run is there, or its run.yaml is damaged.
    """
    path = folder / "run.yaml"
    if not path.is_file():
        raise UserError(f"{folder} holds no run: it has no run.yaml")
    records = jsonl.current(_objects(folder / "metrics.jsonl"))
    events = tuple(
        Event(e["images_seen"] / 1000, e["rule"], e["severity"], e["action"], e["message"], e["attempt"])
        for e in _objects(folder / "events.jsonl")
    )
    passport = folder / "passport.json"
    return Run(
        name=folder.resolve().name,
        folder=folder,
        settings=_settings(path),
        curves=_curves(records),
        events=events,
        grids=tuple(_grids(folder / "samples")),
        passport=json.loads(passport.read_text(encoding="utf-8")) if passport.is_file() else {},
        attempt=records[-1]["attempt"] if records else 0,
    )


def _settings(path: Path) -> dict[str, Any]:
    """As `lgen fit` wrote them."""
    try:
        settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        _ = settings["model"]["name"], settings["data"]["name"], settings["seed"], float(settings["kimg"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as reason:
        raise UserError(f"{path} does not say which run this is: it is damaged, or no run.yaml of lgen fit") from reason
    return settings


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    return jsonl.objects(path.read_bytes().splitlines()) if path.is_file() else iter(())


def _curves(records: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for name, value in _numbers(record):
            found.setdefault(name, []).append((record["images_seen"] / 1000, value))
    return found


def _numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if name not in NO_VALUES and isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value)


def _grids(folder: Path) -> Iterator[tuple[float, Path]]:
    for path in sorted(folder.glob("*.png")):
        if path.stem.isdigit():
            yield int(path.stem) / 1000, path
