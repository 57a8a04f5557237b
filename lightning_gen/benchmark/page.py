"""A suite's leaderboard as one HTML page that needs nothing beside itself: pictures, curves, style are inside."""

from __future__ import annotations

import base64
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_gen.benchmark import leaderboard, wording
from lightning_gen.benchmark.numbers import number
from lightning_gen.benchmark.results import ResultRow
from lightning_gen.report.page import part, template

COLOURS = 8
"""`--line-0` .. `--line-7` in the template: a palette for light and one for dark."""

# Colours that no figure has otherwise: each is replaced by what the page's own style says.
INK, RULE, LINE = "#c0deff", "#c0defe", "#c0de{:02x}"

DASHES = ("-", "--", "-.", ":")
"""Of the lines after the eighth, the sixteenth, ..."""


@dataclass(frozen=True)
class Series:
    """One line of a figure."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]
    """kimg, mean, lowest and highest over the seeds."""
    seeds: int
    failed: bool = False


@dataclass(frozen=True)
class Curves:
    """A figure, and what a reader who cannot see it is told."""

    metric: str
    svg: str
    series: tuple[Series, ...]

    @property
    def alt(self) -> str:
        """First and last value of each line."""
        said = "; ".join(f"{s.name} from {number(s.points[0][1])} to {number(s.points[-1][1])}" for s in self.series)
        return f"{self.metric} against thousands of images seen: {said}."


@dataclass(frozen=True)
class Picture:
    """A grid of samples; `data` is None where the file is missing or is no PNG."""

    name: str
    seed: int
    data: str | None


def page(rows: Sequence[ResultRow], results: Path) -> str:
    """The page of one suite.

    Args:
        rows: As `results.read` gives them.
        results: The folder that the rows' `grid` is relative to.
    """
    rows = sorted(rows, key=lambda row: (row.entry, row.seed))
    return template(__package__).render(
        board=leaderboard.build(rows),
        words=wording,
        curves=[curves(name, series(rows, name)) for name in _drawn(rows)],
        pictures=[
            Picture(leaderboard.label(row, rows), row.seed, _embedded(results, row.grid)) for row in rows if row.grid
        ],
        newest=max((row.finished_at for row in rows), default=""),
        colours=COLOURS,
        style=part("style.css"),
    )


def series(rows: Sequence[ResultRow], metric: str) -> list[Series]:
    """One line for each entry: the mean over its seeds where all of them were measured.

    A failed run is a line of its own: it would end the others' where it stopped. So is each seed of an entry whose
    seeds were never measured at the same place.
    """
    runs: dict[str, list[tuple[ResultRow, dict[float, float]]]] = {}
    for row in rows:
        points = {
            at: value for r in row.curve if (at := r.get("images_seen")) is not None and (value := _place(r, metric))
        }
        if points:
            own = f", seed {row.seed}, failed" if row.state == "failed" else ""
            runs.setdefault(leaderboard.label(row, rows) + own, []).append((row, points))
    found = []
    for name, seeds in runs.items():
        failed = seeds[0][0].state == "failed"
        together = [(name, [points for _, points in seeds])]
        if not set.intersection(*(set(points) for _, points in seeds)):
            together = [(f"{name}, seed {row.seed}", [points]) for row, points in seeds]
        found += [Series(named, _spread(several), len(several), failed) for named, several in together]
    return found


def _spread(runs: Sequence[dict[float, float]]) -> tuple[tuple[float, float, float, float], ...]:
    """kimg, mean, lowest and highest where all runs were measured."""
    shared = sorted(set.intersection(*(set(points) for points in runs)))
    values = [(at, [points[at] for points in runs]) for at in shared]
    return tuple((at / 1000, statistics.fmean(v), min(v), max(v)) for at, v in values)


def curves(metric: str, lines: Sequence[Series]) -> Curves:
    """The figure as an SVG element whose colours and fonts are the page's."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": metric,
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": RULE,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.4, 3.2), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.subplots()
        axes.patch.set_visible(False)
        for i, line in enumerate(lines):
            kimg, mean, low, high = zip(*line.points, strict=True)
            colour = LINE.format(i % COLOURS)
            width = 1.0 if line.failed else 1.8
            axes.plot(kimg, mean, DASHES[i // COLOURS % len(DASHES)], color=colour, linewidth=width, marker=".")
            if line.seeds > 1:
                axes.fill_between(kimg, low, high, color=colour, alpha=0.2, linewidth=0)
            if line.failed:
                axes.plot(kimg[-1], mean[-1], "x", color=colour)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(True, linewidth=0.8)
        axes.set_xlabel("thousands of images seen")
        axes.set_ylabel(metric, parse_math=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return Curves(metric, _inline(file.getvalue()), tuple(lines))


def _inline(svg: str) -> str:
    """Without what only a file of its own needs, and in the colours of the page."""
    svg = svg[svg.index("<svg") :]
    names = {INK: "currentColor", RULE: "var(--rule)"}
    names |= {LINE.format(i): f"var(--line-{i})" for i in range(COLOURS)}
    for placeholder, name in names.items():
        svg = svg.replace(placeholder, name)
    return svg


def _drawn(rows: Iterable[ResultRow]) -> list[str]:
    """Fréchet distances that the curves hold."""
    records = [record for row in rows for record in row.curve]
    names = {name for record in records for name in record if wording.short(name) == "fid" and _place(record, name)}
    return sorted(names)


def _place(record: Mapping[str, float | None], name: str) -> float | None:
    """Where a score stands on a logarithmic axis, if it does."""
    value = record.get(name)
    return value if value is not None and 0 < value < math.inf else None


def _embedded(results: Path, name: str) -> str | None:
    """A PNG as a data URL. A row can come from anybody: no file outside the results is put on the page."""
    path = (results / name).resolve()
    if not path.is_relative_to(results.resolve()) or not path.is_file():
        return None
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG\r\n"):
        return None
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
