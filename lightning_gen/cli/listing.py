"""Tables of what is installed, and of the settings of one part, for `lgen models`, `lgen data`, `lgen extractors`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from lightning_gen import registry

ENDLESS = 10_000
"""Columns of what is no terminal."""


def installed(kind: str, as_json: bool) -> None:
    """List the parts of one kind, without importing any of them."""
    parts = registry.parts(kind)
    if as_json:
        rows = [
            {"name": p.name, "distribution": p.distribution, "version": p.version, "state": p.problem or "ready"}
            for p in parts
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    table(
        ("name", "distribution", "state"),
        [(p.name, f"{p.distribution} {p.version}", f"BROKEN: {p.problem}" if p.problem else "ready") for p in parts],
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table as every verb does: in columns, the last one wrapped where the terminal ends; off a terminal one
    line a row, without colours."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=ENDLESS)
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, title in enumerate(head):
        made.add_column(title, no_wrap=number < len(head) - 1, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))  # as it is: brackets are no markup
    with console.capture() as printed:
        console.print(made)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def settings(cls: Any) -> dict[str, dict[str, Any]]:
    """Each setting of a class: its type, its default and its line of help, read off the signature and the docstring.

    One that must be given has no default.
    """
    from docstring_parser import parse

    helps = {p.arg_name: " ".join((p.description or "").split()) for p in parse(inspect.getdoc(cls) or "").params}
    return {
        name: {
            "type": str(getattr(p.annotation, "__name__", p.annotation)),
            **(
                {}
                if p.default is inspect.Parameter.empty
                else {"default": list(p.default) if isinstance(p.default, tuple) else p.default}
            ),
            "help": helps.get(name, ""),
        }
        for name, p in inspect.signature(cls).parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


def settings_table(group: str, known: dict[str, dict[str, Any]]) -> None:
    """Print settings as the command line spells them."""
    table(
        ("setting", "default", "what"),
        [
            (f"--{group}.{name}", str(about.get("default", "(must be given)")), about["help"])
            for name, about in known.items()
        ],
    )


def first_line(cls: Any) -> str:
    """The line of help of a class."""
    return (inspect.getdoc(cls) or "").split("\n", 1)[0]
