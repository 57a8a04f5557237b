"""`lgen data`: which data sources are installed, and the settings of one of them."""

from __future__ import annotations

import json

import click

from lightning_gen import registry
from lightning_gen.cli import listing, options


@click.command("data")
@click.argument("name", required=False, shell_complete=options.names("data"))
@options.plugin
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(name: str | None, as_json: bool) -> None:
    """List the installed data sources; with NAME: its settings."""
    if name is None:
        listing.installed("data", as_json)
        return
    cls = registry.load(name, "data")
    part = registry.part(name, "data")
    known = listing.settings(cls)
    if as_json:
        about = {
            "name": name,
            "distribution": part.distribution,
            "version": part.version,
            "kind": cls.kind,
            "settings": known,
        }
        click.echo(json.dumps(about, indent=2, default=str))
        return
    click.echo(f"{name}: {listing.first_line(cls)}\n{part.distribution} {part.version}\n")
    listing.settings_table("data", known)
