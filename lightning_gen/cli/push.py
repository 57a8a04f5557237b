"""`lgen push`: share the model of a run."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from lightning_gen.cli import options


@click.command("push")
@click.argument("run", metavar="RUN")
@click.argument("to", metavar="DIR|hf://OWNER/NAME")
@options.checkpoint
@click.option("--license", metavar="NAME", help="Of the weights, for the card: yours to choose, e.g. mit.")
@click.option("--private", is_flag=True, help="A new repository on the hub that only you can see.")
@options.plugin
def command(run: str, to: str, checkpoint: str | None, license: str | None, private: bool) -> None:
    """Put a run's model into a folder, or a repository on the Hugging Face hub, with a card that says what it is.

    The card states data, budget, scores with their passport and settings, and shows samples. A repository is created
    where there is none; log in with `hf auth login` before.
    """
    from lightning_gen.errors import UserError
    from lightning_gen.sharing import repository

    if private and not to.startswith(repository.HUB):
        raise UserError(f"--private is for the hub, and {to} is a folder")
    click.echo(repository.push(Path(run), to, checkpoint, license, private))
    click.echo(f"others get it with: lgen pull {shlex.quote(to)}")
