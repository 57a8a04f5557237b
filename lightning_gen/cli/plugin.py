"""`lgen plugin`: write a distribution of one's own, check it, and see what all of them do."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import click

from lightning_gen.cli import listing


@click.group("plugin")
def command() -> None:
    """Models, data sources, extractors, callbacks and metrics that other distributions bring."""


@command.command("new")
@click.argument("name")
@click.option("--out", metavar="DIR", help="Where to write it; ./lgen-NAME by default.")
def new(name: str, out: str | None) -> None:
    """Write a distribution with the model NAME: its class, test, pyproject.toml and README."""
    from lightning_gen.plugin.new import write

    folder = write(name, Path(out) if out else None)
    click.echo(f"{folder}: a model in one file, its entry point, its test")
    click.echo(f"next: pip install -e {folder} && lgen plugin check lgen-{name} && lgen fit --model {name}")


@command.command("check")
@click.argument("dist", metavar="DIST|FILE.py:Class")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=300.0, show_default=True, help="Seconds a part."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def check(dist: str, timeout: float, as_json: bool) -> None:
    """Run the conformance kit on every part of the distribution DIST. Exit code 2 if one fails.

    They are tried in a process of their own. One that needs files or weights which are not here is skipped.
    """
    from lightning_gen import registry, unpackaged
    from lightning_gen.plugin import survey
    from lightning_gen.plugin.probe import Verdict, probe

    with registry.including([dist] if unpackaged.is_spec(dist) else []):
        parts = registry.included() if unpackaged.is_spec(dist) else survey.parts_of(dist)
        who, version = parts[0].distribution, parts[0].version
        results: list[tuple[str, Verdict]] = []

        def tell(what: str, verdict: Verdict) -> None:
            results.append((what, verdict))
            if not as_json:
                word = {"ready": "ok", "broken": "FAILED"}.get(verdict.state, verdict.state)
                click.echo(f"  {word:7}  {what}" + (f": {verdict.reason}" if verdict.reason else ""))

        if not as_json:
            click.echo(f"{who} {version}")
        for problem in survey.problems(parts[0]):
            tell("distribution", Verdict("broken", problem))
        for part in parts:
            if part.problem:
                tell(f"{registry.KINDS[part.kind]} {part.name}", Verdict("broken", part.problem))
        for part, verdict in probe("check", [part for part in parts if not part.problem], timeout):
            tell(f"{registry.KINDS[part.kind]} {part.name}", verdict)
    failed = sum(verdict.state == "broken" for _, verdict in results)
    if as_json:
        rows = [{"part": what, **dataclasses.asdict(verdict)} for what, verdict in results]
        click.echo(json.dumps({"distribution": who, "version": version, "failed": failed, "parts": rows}, indent=2))
    else:
        click.echo(f"{failed} of {len(results)} failed" if failed else "keeps the contract")
    sys.exit(2 if failed else 0)


@command.command("list")
@click.option("--all", "ours", is_flag=True, help="Also what lightning-gen itself brings.")
@click.option("--load", is_flag=True, help="Import each, in a process of its own, to see whether it can be.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="Seconds a part."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_plugins(ours: bool, load: bool, timeout: float, as_json: bool) -> None:
    """Show every plugin: its kind, distribution, version and state, and the reason where it cannot be used.

    Without --load nothing is imported: ready then means that nothing is known against it.
    """
    from lightning_gen.plugin import survey

    rows = [dataclasses.asdict(row) for row in survey.survey(ours=ours, load=timeout if load else None)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("no plugins are installed; `lgen plugin new NAME` writes one")
        return
    listing.table(list(rows[0]), [list(row.values()) for row in rows])
