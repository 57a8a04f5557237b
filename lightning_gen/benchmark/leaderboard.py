"""Result rows to ranked tables, one for each protocol: unlike passports never share one.

`build` decides what stands where; `markdown` and the HTML page only write it down.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lightning_gen.benchmark.numbers import count, mean_and_deviation, number
from lightning_gen.benchmark.published import OtherProtocol, Published, apart, concern, matches, published
from lightning_gen.benchmark.results import WEIGHTS, Evaluation, ResultRow, by_protocol
from lightning_gen.benchmark.wording import (
    LEGEND,
    as_published,
    bullets,
    grid,
    heading,
    pairs,
    published_cells,
    sentence,
    short,
    stated,
    title,
    why,
)
from lightning_gen.metrics.directions import BETTER
from lightning_gen.metrics.passport import Passport

RANKED_WITH_PUBLISHED = ("fid", "is")
"""What a published row shows beside ours: how it set the subsets of KID or the neighbours of precision, none says."""


class Cell(NamedTuple):
    """What a table shows, and the number it sorts by (None: last)."""

    text: str
    value: float | None = None


NOTHING = Cell("-")


@dataclass(frozen=True)
class Line:
    """An entry with one kind of weights, over its seeds; or a published row of the same protocol."""

    name: str
    weights: str
    scores: Mapping[str, tuple[float, ...]]
    """Short name: the finite values, in the order of the seeds."""
    measured: int
    """Seeds with this evaluation."""
    started: int
    """Seeds of the entry, failed ones too."""
    kimg: Cell = NOTHING
    minutes: Cell = NOTHING
    images_per_second: Cell = NOTHING
    parameters: Cell = NOTHING
    published: Published | None = None

    def cells(self, metrics: Iterable[str]) -> list[Cell]:
        """In the order of `Board.header`, without the rank."""
        about = [self.kimg, self.minutes, self.images_per_second, self.parameters]
        return [Cell(self.name), Cell(self.weights), self._seeds(), *(self._score(m) for m in metrics), *about]

    def mean(self, metric: str) -> float | None:
        """Over seeds."""
        values = self.scores.get(metric)
        return statistics.fmean(values) if values else None

    def _seeds(self) -> Cell:
        if self.published:
            return Cell(f"n={self.published.seeds}", self.published.seeds) if self.published.seeds else NOTHING
        of = f" of {self.started}" if self.started > self.measured else ""
        return Cell(f"n={self.measured}{of}", self.measured)

    def _score(self, metric: str) -> Cell:
        values = self.scores.get(metric)
        if not values:
            return NOTHING
        if self.published:
            return Cell(as_published(self.published, metric), values[0])
        # a seed whose score is not finite must not make the mean look better unseen
        lost = f" ({len(values)} of {self.measured} finite)" if len(values) < self.measured else ""
        return Cell(mean_and_deviation(values) + lost, self.mean(metric))


@dataclass(frozen=True)
class Table:
    """What was measured under one protocol, best first."""

    digest: str
    passport: Passport
    """One of those with this digest; they differ in nothing that changes the number."""
    names: Mapping[str, str]
    """Short name of each score to its whole one, `fid` to `fid/tiny`."""
    lines: tuple[Line, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the published ones among the lines come from."""
        rows = [line.published for line in self.lines if line.published]
        return tuple(dict.fromkeys(f"{row.title}: {row.source} ({row.evidence})" for row in rows))


@dataclass(frozen=True)
class Board:
    """All there is to show of a suite."""

    suite: str
    tables: tuple[Table, ...]
    metrics: tuple[str, ...]
    """Columns of every table alike."""
    entries: tuple[str, ...]
    """One sentence each: model, settings, networks, machine."""
    without_score: tuple[str, ...]
    """Rows that failed or have no evaluation, with the reason."""
    others: tuple[OtherProtocol, ...]
    """Published rows of protocols that are none of ours."""

    def header(self, table: Table) -> list[str]:
        """Column heads, with whose features a score is of."""
        scores = [heading(metric, table.names.get(metric, "")) for metric in self.metrics]
        return ["#", "entry", "weights", "seeds", *scores, "kimg", "minutes", "images/s", "parameters"]

    def ranked(self, table: Table) -> list[list[Cell]]:
        """The cells of a table, rank first; a line without the ranking score has none, and stands last."""
        rank = 0
        cells = []
        for line in table.lines:
            known = bool(self.metrics) and line.mean(self.metrics[0]) is not None
            rank += known
            cells.append([Cell(str(rank), rank) if known else NOTHING, *line.cells(self.metrics)])
        return cells


def build(rows: Sequence[ResultRow]) -> Board:
    """Rank the rows of one suite: the order of `rows` is of no matter."""
    rows = sorted(rows, key=lambda row: (row.entry, row.seed))
    groups = by_protocol(rows)
    names = {digest: _names(group) for digest, group in groups.items()}
    found = {metric for known in names.values() for metric in known}
    metrics = [name for name in BETTER if name in found] + sorted(found - set(BETTER))
    tables = [
        Table(digest, group[0][1].passport, names[digest], _lines(rows, group, metrics))
        for digest, group in groups.items()
    ]
    return Board(
        suite=", ".join(sorted({row.suite for row in rows})),
        tables=tuple(tables),
        metrics=tuple(metrics),
        entries=_entries(rows),
        without_score=tuple(_without_score(row) for row in rows if row.state == "failed" or not row.evaluations),
        others=tuple(apart(table.passport for table in tables)),
    )


def markdown(board: Board) -> str:
    """The leaderboard as Markdown."""
    parts = [f"# Leaderboard: {board.suite}" if board.suite else "# Leaderboard", LEGEND]
    if not board.tables:
        parts.append("No row has a score yet.")
    for table in board.tables:
        parts += [f"## {title(table.passport)}", f"Protocol `{table.digest}`: {sentence(table.passport)}."]
        cells = [[cell.text for cell in row] for row in board.ranked(table)]
        parts.append(grid(board.header(table), cells, left=("entry", "weights")))
        parts += [f"Published: {'; '.join(table.sources)}."] if table.sources else []
    if board.without_score:
        parts += ["## Without a score", bullets(board.without_score)]
    if board.entries:
        parts += ["## Entries", bullets(board.entries)]
    if board.others:
        parts += ["## Published numbers, other protocol", "Not ranked with ours, nor with each other: see each reason."]
    for other in board.others:
        about = f" {other.about}" if other.about else ""
        parts += [
            f"### {other.title}",
            f"{stated(other.protocol)}.{about} Source: {'; '.join(other.sources)}.",
            f"Other protocol: {why(other.reasons)}.",
            grid(*published_cells(other), left=("method", "conditional", "weights", "notes")),
        ]
    return "\n\n".join(parts) + "\n"


def label(row: ResultRow, rows: Iterable[ResultRow]) -> str:
    """The entry's name; an entry that was changed between its seeds is two, and says so."""
    others = [other for other in rows if other.entry == row.entry and _recipe(other) != _recipe(row)]
    if not others:
        return row.entry
    apart = {
        name: value
        for name, value in row.resolved.items()
        if name not in row.settings and any(other.resolved.get(name, value) != value for other in others)
    }
    unknown = not row.resolved and any(other.resolved for other in others)
    told = [_settings(row), pairs(apart), "the preset's settings of that day, not recorded" if unknown else ""]
    return f"{row.entry} ({', '.join(filter(None, told))})"


Group = Sequence[tuple[ResultRow, Evaluation]]


def _names(group: Group) -> dict[str, str]:
    """Short name of each score to its whole one."""
    whole = {name for _, evaluation in group for name in evaluation.scores}
    return {metric: name for name in sorted(whole) if (metric := short(name))}


def _lines(rows: Sequence[ResultRow], group: Group, metrics: Sequence[str]) -> tuple[Line, ...]:
    """Seeds of equal runs together, best mean first."""
    seeds: dict[tuple[object, ...], dict[int, tuple[ResultRow, Evaluation]]] = {}
    for row, evaluation in group:
        key = (row.entry, _recipe(row), row.kimg, evaluation.weights, pairs(evaluation.passport.sampling))
        seeds.setdefault(key, {})[row.seed] = (row, evaluation)
    lines = [_line(rows, list(found.values()), metrics) for found in seeds.values()]
    passport = group[0][1].passport
    if concern(passport):
        lines += [_published_line(row) for row in published() if not matches(row, passport)]
    first = metrics[0] if metrics else ""
    sign = -1 if BETTER.get(first) == "↑" else 1

    def place(line: Line) -> tuple[bool, float, str, int, str]:
        mean = line.mean(first)
        weights = line.weights.split(",")[0]
        return (mean is None, sign * (mean or 0.0), line.name, (*WEIGHTS, weights).index(weights), line.weights)

    return tuple(sorted(lines, key=place))


def _line(rows: Sequence[ResultRow], group: Group, metrics: Sequence[str]) -> Line:
    row, evaluation = group[0]
    # a failed run may have stopped anywhere; one that was done with another budget is another line
    alike = [r for r in rows if (r.entry, _recipe(r)) == (row.entry, _recipe(row))]
    alike = [r for r in alike if r.state == "failed" or r.kimg == row.kimg]
    options = pairs(evaluation.passport.sampling)
    by_short = [{short(name): value for name, value in e.scores.items()} for _, e in group]
    values = {
        m: tuple(v for scores in by_short if (v := scores.get(m)) is not None and math.isfinite(v)) for m in metrics
    }
    return Line(
        name=label(row, rows),
        weights=f"{evaluation.weights}, {options}" if options else evaluation.weights,
        scores={name: found for name, found in values.items() if found},
        measured=len(group),
        started=len(alike),
        kimg=_kimg(group),
        minutes=_mean([row.seconds / 60 for row, _ in group if row.seconds is not None]),
        images_per_second=_mean([row.images_per_second for row, _ in group if row.images_per_second is not None]),
        parameters=_parameters(row),
    )


def _published_line(row: Published) -> Line:
    kept = {name: (row.scores[name],) for name in RANKED_WITH_PUBLISHED if name in row.scores}
    name = f"{row.method}{', conditional' if row.conditional else ''} (published: {row.title})"
    return Line(name, row.checkpoint or "not stated", kept, measured=1, started=1, published=row)


def _recipe(row: ResultRow) -> str:
    """What must be equal for two seeds to be the same entry."""
    return json.dumps([row.model, dict(row.settings), dict(row.resolved)], sort_keys=True, default=str)


def _settings(row: ResultRow) -> str:
    return f"{row.model}, {pairs(row.settings) or 'as it comes'}"


def _kimg(group: Group) -> Cell:
    """Images behind the weights, and of the whole training where that went on."""
    seen = statistics.fmean(evaluation.images_seen / 1000 for _, evaluation in group)
    trained = [row.kimg for row, _ in group if row.kimg is not None]
    whole = statistics.fmean(trained) if trained else seen
    return Cell(number(seen) + (f" of {number(whole)}" if whole - seen > 0.01 * whole else ""), seen)


def _mean(values: Sequence[float]) -> Cell:
    return Cell(number(statistics.fmean(values)), statistics.fmean(values)) if values else NOTHING


def _parameters(row: ResultRow) -> Cell:
    total = sum(row.parameters.values())
    return Cell(" + ".join(count(n) for n in row.parameters.values()), total) if row.parameters else NOTHING


def _entries(rows: Sequence[ResultRow]) -> tuple[str, ...]:
    """What each entry is, in a sentence; one that was changed between its seeds has several."""
    about: dict[str, set[str]] = {}
    for row in rows:
        machines = about.setdefault(f"{row.entry}: {_settings(row)}{_networks(row)}", set())
        machines |= {row.machine} if row.machine else set()
    return tuple(f"{text}; on {' and on '.join(sorted(m))}" if m else text for text, m in about.items())


def _networks(row: ResultRow) -> str:
    return f"; parameters: {', '.join(f'{name} {n:,}' for name, n in row.parameters.items())}" if row.parameters else ""


def _without_score(row: ResultRow) -> str:
    reason = row.reason or "no reason given"
    if row.state == "done":
        reason = f"done, but not evaluated{f' ({row.reason})' if row.reason else ''}"
    return f"{row.entry}, seed {row.seed}: {reason}"
