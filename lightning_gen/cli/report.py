"""`lgen report`: runs as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN [RUN …]")
@click.option("--out", metavar="FILE.html", help="Where to; report.html in the run by default, here for several runs.")
def command(runs: tuple[str, ...], out: str | None) -> None:
    """Write one HTML page of a run, or of several over one another: curves, grids, health, scores, settings.

    It opens from disk, fetches nothing, and may be sent to anybody. `lgen fit` writes it too.
    """
    from lightning_gen import report
    from lightning_gen.errors import UserError
    from lightning_gen.files import write

    found = [report.read(Path(run)) for run in runs]
    file = Path(out) if out else (found[0].folder if len(found) == 1 else Path()) / "report.html"
    try:
        write(file, report.page(found))
    except OSError as reason:
        raise UserError(f"cannot write --out {file}: {reason.strerror}") from reason
    click.echo(file)
