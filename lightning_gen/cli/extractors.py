"""`lgen extractors`: which feature extractors are installed, and whether their weights are at hand."""

from __future__ import annotations

import json
from typing import Any

import click

from lightning_gen import registry
from lightning_gen.cli import listing, options
from lightning_gen.errors import UserError


@click.command("extractors")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@options.plugin
def command(name: str | None, as_json: bool) -> None:
    """List the installed extractors; with NAME: features, resizes, and whether its weights can be loaded."""
    if name is None:
        listing.installed("extractors", as_json)
        return
    cls = registry.load(name, "extractors")
    part = registry.part(name, "extractors")
    about: dict[str, Any] = {
        "name": name,
        "distribution": part.distribution,
        "version": part.version,
        "help": listing.first_line(cls),
    }
    with registry.blamed(name, "extractors", "cannot be described"):
        about |= {"features": cls.feature_dim, "classes": cls.logit_dim, "resizes": list(cls.resizes)}
    try:
        about |= {"weights": registry.make(name, "extractors").weights_digest, "state": "ready"}
    except UserError as reason:
        about["state"] = str(reason)
    if as_json:
        click.echo(json.dumps(about, indent=2))
        return
    about |= {"classes": about["classes"] or "none", "resizes": ", ".join(about["resizes"])}
    for key, value in about.items():
        click.echo(f"{key:14} {value}")
