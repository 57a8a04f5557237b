"""`lgen watch`: replays the health rules over a finished or running log."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("watch")
@click.argument("log", metavar="RUN|LOG.jsonl[.gz]")
@click.option("--without", metavar="NAME,…", help="Decide without these fields: `--without fid` uses losses alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run.")
def command(log: str, without: str | None, as_json: bool) -> None:
    """Say of every run in a log whether it is healthy, collapsed, diverged or stagnated, and since when.

    LOG is a run directory, its metrics.jsonl, or a file with a whole run on each line; gzip or not. Exit code 0
    whatever the verdicts are.
    """
    from lightning_gen.errors import UserError, nearest
    from lightning_gen.watch import Outcome, Record, Watch, logs, replay
    from lightning_gen.watch.record import position

    hidden = [name.strip() for name in (without or "").split(",") if name.strip()]
    known = logs.families()
    for name in hidden:
        if name not in known:
            raise UserError(f"--without {name}: no rule reads it{nearest(name, known)} (known: {', '.join(known)})")

    def as_object(run: str, outcome: Outcome) -> dict[str, object]:
        alarm = outcome.alarm
        return {
            "run": run,
            "verdict": outcome.verdict,
            "rule": alarm.rule if alarm else None,
            "alarm_at": alarm.at if alarm else None,
            "share_left": round(outcome.share_left, 4),
        }

    def as_line(run: str, outcome: Outcome, last: Record) -> str:
        if outcome.alarm is None:
            line = f"{run}  healthy, to {position(last.at, last.unit)}"
            warnings = [v for v in outcome.verdicts if v.state != "stagnated"]
            return line + (f" (warned {warnings[0].message})" if warnings else "")
        return f"{run}  {outcome.verdict} {outcome.alarm.message} ({outcome.share_left:.0%} of the run left)"

    for one in logs.read(Path(log)):
        outcome = replay(one.records, Watch(without=hidden), end=one.budget)
        if as_json:
            click.echo(json.dumps(as_object(one.run, outcome)))
        else:
            click.echo(as_line(one.run, outcome, one.records[-1]))
