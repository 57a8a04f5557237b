"""Tables of what is installed, and of the settings of one part, for `lgen models`, `lgen data`, `lgen extractors`."""

from __future__ import annotations

import inspect
import json
from typing import Any

import click

from lightning_gen import registry


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
    width = max((len(p.name) for p in parts), default=0)
    for p in parts:
        click.echo(f"{p.name:{width}}  {p.distribution} {p.version}" + (f"  BROKEN: {p.problem}" if p.problem else ""))


def settings(cls: Any) -> dict[str, dict[str, Any]]:
    """Each setting of a class: its type, its default and its line of help, read off the signature and the docstring."""
    from docstring_parser import parse

    helps = {p.arg_name: " ".join((p.description or "").split()) for p in parse(inspect.getdoc(cls) or "").params}
    return {
        name: {
            "type": str(getattr(p.annotation, "__name__", p.annotation)),
            "default": list(p.default) if isinstance(p.default, tuple) else p.default,
            "help": helps.get(name, ""),
        }
        for name, p in inspect.signature(cls).parameters.items()
        if p.default is not inspect.Parameter.empty
    }


def settings_table(group: str, known: dict[str, dict[str, Any]]) -> None:
    """Print settings as the command line spells them."""
    width = max((len(name) for name in known), default=0) + len(group) + 3
    for name, about in known.items():
        click.echo(f"  {f'--{group}.{name}':{width}} {about['help']} [{about['default']}]")


def first_line(cls: Any) -> str:
    """The line of help of a class."""
    return (inspect.getdoc(cls) or "").split("\n", 1)[0]
