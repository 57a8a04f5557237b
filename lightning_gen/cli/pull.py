"""`lgen pull`: get a model that somebody shared."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("pull")
@click.argument("source", metavar="DIR|hf://OWNER/NAME")
@click.option("--out", metavar="DIR", help="Where to; the name of the model, here, by default.")
def command(source: str, out: str | None) -> None:
    """Get a model that `lgen push` shared, as a folder that `lgen sample` and the other verbs take for a run.

    Nothing that comes with it is run or unpickled.
    """
    from lightning_gen import registry, unpackaged
    from lightning_gen.sharing import repository

    folder = Path(out or source.removeprefix(repository.HUB).rstrip("/").split("/")[-1])
    about = repository.pull(source, folder)
    scores = "".join(f", {name} {value:.4g}" for name, value in list(about["scores"].items())[:1])
    click.echo(f"{folder}: {about['model']} on {about['data']}, {about['kimg']:g} kimg{scores}")
    if about["model"] in registry.names("models"):
        verb = "translate" if registry.load(about["model"]).translates else "sample"
        click.echo(f"lgen {verb} {folder} --help")
    elif unpackaged.is_spec(about["distribution"]):
        whose = f"{about['distribution']} {about['version']}"
        click.echo(f"it needs the class {about['model']} of {whose}: say --plugin FILE.py:{about['model']}")
    else:
        click.echo(f"it needs {about['distribution']} {about['version']}: pip install {about['distribution']}")
