"""Options that several verbs share."""

from __future__ import annotations

from typing import Any

import click

from lightning_gen import registry


def _include(ctx: click.Context, option: click.Parameter, specs: tuple[str, ...]) -> None:
    """Known for as long as the verb runs; also what a checkpoint adds is forgotten then."""
    ctx.with_resource(registry.including(specs))


plugin: Any = click.option(
    "--plugin",
    multiple=True,
    metavar="FILE.py:Class",
    expose_value=False,
    is_eager=True,  # before the names of other options are looked up
    callback=_include,
    help="A model, data source, … that is in no distribution, under the name of its class; repeatable.",
)
"""What it names is a part like any other, so no verb has to know of it."""


def names(kind: str) -> Any:
    """Completes names of registered parts in the shell; reads entry points only."""

    def complete(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        return [name for name in registry.names(kind) if name.startswith(begun)]

    return complete
