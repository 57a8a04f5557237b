"""`lgen benchmark`: suites of runs, and the leaderboard that comes of them."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lightning_gen.cli import listing, options
from lightning_gen.cli.mistakes import INTERRUPTED
from lightning_gen.errors import StrangerError

RESULTS = "benchmarks/results"


@click.group("benchmark")
def command() -> None:
    """Train and score many models by one protocol, and rank what may be ranked."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_suites(as_json: bool) -> None:
    """The suites that are found here and in the package."""
    from lightning_gen.benchmark import suite

    suites = {name: suite.load(name) for name in suite.available()}
    rows = [
        {"suite": name, "tier": s.tier, "rows": len(s.entries) * len(s.seeds), "data": s.data, "about": s.about.strip()}
        for name, s in suites.items()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    listing.table(("suite", "tier", "rows", "data", "about"), [[str(cell) for cell in row.values()] for row in rows])


@command.command("run", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("suite")
@click.argument("settings", nargs=-1, type=click.UNPROCESSED, metavar="[--data.KEY VALUE]…")
@click.option("--data", metavar="NAME", help="Another data source than the suite's; its settings follow as --data.KEY.")
@click.option("--protocol", metavar="NAME,…", help="Other protocols than the suite's.")
@click.option("--only", metavar="ENTRY,…", help="Of the suite's entries, these.")
@click.option("--seeds", metavar="N,…", help="Other seeds than the suite's.")
@click.option("--out", default=RESULTS, show_default=True, metavar="DIR", help="Where the results are written.")
@click.option("--runs", default="runs/benchmark", show_default=True, metavar="DIR", help="Where the runs are kept.")
@click.option("--launcher", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@options.plugin
@click.option("--device", type=options.DEVICE, help="Where to score: cpu, cuda; a GPU if there is one.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but what goes wrong.")
@click.option("--forecast", "only_forecast", is_flag=True, help="Say how long it would take, and stop.")
def run(
    suite: str,
    settings: tuple[str, ...],
    data: str | None,
    protocol: str | None,
    only: str | None,
    seeds: str | None,
    out: str,
    runs: str,
    launcher: str,
    device: str | None,
    quiet: bool,
    only_forecast: bool,
) -> None:
    """Train and score the rows of SUITE that have no result yet, and write the leaderboard.

    SUITE is a name that `lgen benchmark list` shows, or a YAML file. Kill it at any time: started again, it goes on in
    the middle of the row. Settings after the name hold for every row, such as --data.root and --kimg. Exit code 1: no
    row is done, each of them failed.
    """
    import dataclasses

    from lightning_gen.benchmark import results
    from lightning_gen.benchmark import suite as suites
    from lightning_gen.errors import UserError

    plan = suites.load(suite)
    if protocol is not None:
        plan = dataclasses.replace(plan, protocols=tuple(options.words("--protocol", protocol)))
    try:
        numbers = [int(seed) for seed in options.words("--seeds", seeds)]
    except ValueError:
        raise UserError(f"--seeds {seeds}: expected whole numbers with commas between them, like 0,1,2") from None
    rows = suites.rows(plan, data=data, arguments=settings, only=options.words("--only", only), seeds=numbers)

    from lightning_gen import scoring
    from lightning_gen.benchmark import runner

    device = device or scoring.default_device()
    # here, so that weights that are missing are said before hours pass
    extractors = scoring.extractors(plan.protocols, None, None, None, "cpu")
    measures = {(extractor.name, extractor.resize) for extractor in extractors}
    file = Path(out) / f"{plan.name}.jsonl"

    def left() -> list[Any]:
        return runner.pending(plan, rows, results.read(file), measures)

    done = results.read(file)
    pending = left()
    place = runner.Place(Path(runs) / plan.name, Path(out) / plan.name)
    if not quiet:
        click.echo(f"suite {plan.name}: {len(rows)} rows, {len(rows) - len(pending)} done")
        _forecast(runner, pending, done, place)
    if only_forecast:
        return
    if pending:
        _make([("--out", file.parent), ("--out", place.pictures), ("--runs", place.runs)])
    try:
        for result in runner.LAUNCHERS[launcher](plan, pending, place, device):
            results.append(file, result)
            if not quiet or result.state == "failed":
                click.echo(_line(result))
    except KeyboardInterrupt:
        click.echo(_interrupted(rows, left()))
        sys.exit(INTERRUPTED)
    markdown = _written(file)
    if not quiet:
        click.echo(markdown)
        _where(file)
    if len(left()) == len(rows):
        click.echo(f"no row of the suite {plan.name} is done: each of them failed", err=True)
        sys.exit(1)


def _make(folders: Sequence[tuple[str, Path]]) -> None:
    """The folders of the options, before hours pass; none where one of them cannot be written."""
    from lightning_gen import files
    from lightning_gen.errors import UserError

    made: list[Path] = []
    for option, folder in folders:
        try:
            made[:0] = files.make_folder(folder)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as reason:
            files.remove_empty(made)
            raise UserError(f"cannot write to {option} {folder}: {reason.strerror}") from reason


def _interrupted(rows: list[Any], left: list[Any]) -> str:
    """Which rows are done, in one line."""
    done = ", ".join(f"{row.entry} seed {row.seed}" for row in rows if row not in left)
    of = f"{len(rows) - len(left)} of {len(rows)} rows done{f' ({done})' if done else ''}"
    return f"interrupted, {of}: the same command goes on from there"


def _forecast(runner: Any, pending: list[Any], done: list[Any], place: Any) -> None:
    """Print the time that each entry takes, and what is left of all together."""
    seconds = {}
    for row in pending:
        if row.entry not in seconds:
            try:
                seconds[row.entry] = runner.forecast(row, done)
            except StrangerError as reason:  # its rows will fail, the others need not wait for that
                click.echo(f"  {row.entry:20} {str(reason).splitlines()[0]}")
                seconds[row.entry] = 0.0
                continue
            kimg = row.settings.values["kimg"]
            click.echo(f"  {row.entry:20} {_duration(seconds[row.entry])} a row ({kimg:g} kimg)")
    if pending:
        total = _duration(sum(seconds[row.entry] * runner.untrained(row, place) for row in pending))
        click.echo(f"training takes about {total} in all here; sampling and scores come on top")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _line(result: Any) -> str:
    if result.state == "failed":
        return f"{result.entry}, seed {result.seed}: FAILED, {result.reason}"
    name, value = next(iter(result.evaluations[0].scores.items()))
    return f"{result.entry}, seed {result.seed}: {name} {value:.4g} after {_duration(result.seconds)} of training"


@command.command("report")
@click.argument("suite")
@click.option("--out", default=RESULTS, show_default=True, metavar="DIR", help="Where the results lie.")
def report(suite: str, out: str) -> None:
    """Write the leaderboard of SUITE again, as Markdown and as one HTML page, and print the former.

    SUITE is a name, the YAML file of a suite, or a file of results.
    """
    file = _results(suite, out)
    click.echo(_written(file))
    _where(file)


def _results(suite: str, out: str) -> Path:
    from lightning_gen.benchmark import suite as suites
    from lightning_gen.errors import UserError, nearest

    # a file may give its suite another name than its own
    is_planned = suite.endswith(suites.SUFFIXES) or suite in suites.available()
    name = suites.load(suite).name if is_planned else suite
    file = Path(suite) if suite.endswith(".jsonl") else Path(out) / f"{name}.jsonl"
    if not file.is_file():
        known = [path.stem for path in sorted(Path(out).glob("*.jsonl"))]
        raise UserError(f"there are no results {file}{nearest(suite, known)} (--out DIR: where they lie)")
    return file


def _written(file: Path) -> str:
    """The leaderboard of a file of results, written beside it as .md and .html."""
    from lightning_gen import files
    from lightning_gen.benchmark import leaderboard, page, results
    from lightning_gen.errors import UserError

    rows = results.read(file)
    written = {".md": leaderboard.markdown(leaderboard.build(rows)), ".html": page.page(rows, file.parent)}
    for suffix, content in written.items():
        path = file.with_suffix(suffix)
        try:
            files.write(path, content)
        except OSError as reason:
            raise UserError(f"cannot write {path}: {reason.strerror}") from reason
    return written[".md"]


def _where(file: Path) -> None:
    click.echo(f"{file.with_suffix('.md')}, {file.with_suffix('.html')}")


@command.command("compare")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--out", default=RESULTS, show_default=True, metavar="DIR", help="Where the results lie.")
def compare(a: str, b: str, out: str) -> None:
    """Set two scores side by side, or say which field of their passports forbids it.

    A and B are SUITE/ENTRY or SUITE/ENTRY/SEED of the results, or files that `lgen evaluate --json` wrote.
    """
    from lightning_gen.benchmark.compare import compare as compared

    click.echo(compared(_row(a, out), _row(b, out)))


def _row(named: str, out: str) -> Any:
    from lightning_gen.benchmark import results
    from lightning_gen.errors import UserError, nearest

    if named.endswith(".json"):
        return _from_evaluate(Path(named))
    suite, _, rest = named.partition("/")
    entry, _, seed = rest.partition("/")
    rows = results.read(_results(suite, out))
    found = [row for row in rows if row.entry == entry and seed in ("", str(row.seed))]
    if not found:
        known = [f"{suite}/{row.entry}/{row.seed}" for row in rows]
        raise UserError(f"there is no result {named}{nearest(named, known)} (there are {', '.join(known)})")
    return found[0]


def _from_evaluate(file: Path) -> Any:
    from lightning_gen.benchmark.results import Evaluation, ResultRow
    from lightning_gen.errors import UserError
    from lightning_gen.metrics.passport import Passport

    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = content.get("protocols", [content])
        evaluations = tuple(
            Evaluation("final", 0, _numbers(part["scores"]), Passport.from_json(part["passport"])) for part in parts
        )
    except OSError as reason:
        raise UserError(f"{file} cannot be read: {reason.strerror}") from reason
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as reason:
        raise UserError(f"{file} was not written by `lgen evaluate --json`") from reason
    return ResultRow("", file.stem, "", 0, "done", evaluations=evaluations)


def _numbers(scores: dict[str, Any]) -> dict[str, float | None]:
    return {name: None if value is None else float(value) for name, value in scores.items()}
