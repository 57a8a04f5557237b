"""`lgen fit`: train a model."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from pathlib import Path

import click

from lightning_gen.cli import options
from lightning_gen.cli.mistakes import INTERRUPTED


def _one_file(context: click.Context, option: click.Parameter, files: tuple[str, ...]) -> str | None:
    """The file of settings; of two click alone would take the last one, without a word."""
    from lightning_gen.errors import UserError

    if len(files) > 1:
        raise UserError(f"--config is given {len(files)} times: one file holds all settings")
    return files[0] if files else None


@click.command("fit", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=options.names("models"),
    help="Registered model; `lgen models` lists them.",
)
@click.option(
    "--data",
    metavar="NAME",
    shell_complete=options.names("data"),
    help="Registered data source; by default `shapes`, which needs no files, or what the model usually learns from.",
)
@click.option("--preset", metavar="NAME", help="The model's `paper`, `quick`, … settings.")
@click.option(
    "--config",
    multiple=True,
    callback=_one_file,
    metavar="FILE",
    help="Settings as YAML; a run's run.yaml is one.",
)
@click.option("--out", metavar="DIR", help="The run directory; runs/MODEL-DATA-N by default.")
@click.option("--resume", metavar="RUN", help="Go on exactly where this run was, also after a crash.")
@click.option(
    "--logger",
    multiple=True,
    callback=options.several,
    metavar="NAME,…",
    help="tensorboard (default), csv, wandb or none.",
)
@click.option(
    "--callback",
    "callbacks",
    multiple=True,
    callback=options.several,
    metavar="NAME,…",
    help="Registered callbacks to add.",
)
@options.plugin
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but what goes wrong.")
@click.option("--print-config", is_flag=True, help="Show all resolved settings and stop.")
@click.argument("settings", nargs=-1, type=click.UNPROCESSED, metavar="[--kimg N] [--seed N] [--GROUP.KEY VALUE]…")
def command(
    model: str | None,
    data: str | None,
    preset: str | None,
    config: str | None,
    out: str | None,
    resume: str | None,
    logger: tuple[str, ...],
    callbacks: tuple[str, ...],
    quiet: bool,
    print_config: bool,
    settings: tuple[str, ...],
) -> None:
    """Train a model, on the embedded data if nothing is named.

    Settings are --kimg N (budget in thousands of images), --seed N, and the groups --model.KEY, --data.KEY,
    --update.KEY, --augment.KEY, --trainer.KEY, --metrics.KEY, --samples.KEY, --watch.KEY, --checkpoint.KEY, --log.KEY,
    --report.KEY, --progress.KEY. `lgen models NAME` and `lgen data NAME` show those of a model and of a data source.
    """
    from lightning_gen import registry
    from lightning_gen import settings as resolution
    from lightning_gen.errors import UserError

    restarts = max(_number(name) for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))
    if restarts > 0 and out is not None and (Path(out) / "run.yaml").exists():
        # torchrun starts all processes again when one of them died, SLURM a job that was put back into the queue: with
        # the command that began the run
        resume, model, data, preset, config, out, settings = out, None, None, None, None, None, ()
    if resume is not None:
        fixed = {"--model": model, "--data": data, "--preset": preset, "--config": config, "--out": out}
        for option, value in fixed.items():
            if value is not None:
                raise UserError(f"{option} cannot be given with --resume: {resume} already says it")
        resolved = resolution.resolve_resumed(Path(resume), settings, logger=logger, callbacks=callbacks)
        folder = Path(resume)
    else:
        resolved = resolution.resolve(
            settings, model=model, data=data, preset=preset, config=config, logger=logger, callbacks=callbacks
        )
    if registry.only_unpackaged_model() not in (None, resolved.model):
        other = registry.only_unpackaged_model()
        raise UserError(
            f"--plugin names the model {other}, and the run is one of {resolved.model}: leave one of them out"
        )
    if print_config:
        click.echo(resolved.to_yaml(), nl=False)
        return

    from lightning_gen import experiment, launch, rundir  # torch and Lightning from here on

    processes = max(_number(name) for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    if resume is None and out is None and "LGEN_RUN" not in os.environ and processes > 1:
        # each of them would choose a directory of its own
        raise UserError("several processes that another program started (torchrun, srun) need --out DIR")
    began = time.monotonic()
    with contextlib.ExitStack() as claimed:
        if resume is None and not (out or os.environ.get("LGEN_RUN")):
            folder = claimed.enter_context(rundir.free_directory(f"{resolved.model}-{resolved.data}"))
            # processes that Lightning starts for further devices run this same command and must find the same folder
            os.environ["LGEN_RUN"] = str(folder)
            claimed.callback(os.environ.pop, "LGEN_RUN", None)
        elif resume is None:
            folder = Path(out or os.environ["LGEN_RUN"])
        finished = experiment.fit(
            resolved, folder, resume=resume is not None, say=_warn if quiet else click.echo, show_progress=not quiet
        )
    if not launch.is_first_process():
        return
    if finished.verdict:
        click.echo(f"stopped by the watch {finished.verdict.message}")
        best = finished.folder / "checkpoints" / "best.ckpt"
        click.echo(f"the best weights so far: {best}" if best.exists() else f"run {finished.folder}")
        sys.exit(3)
    if finished.interrupted:
        if finished.saved:
            click.echo(f"stopped by {finished.interrupted} at {finished.images_seen / 1000:g} kimg, checkpoint saved")
            click.echo(f"go on exactly there: lgen fit --resume {shlex.quote(str(finished.folder))}")
        else:
            click.echo(f"stopped by {finished.interrupted} before the first step: there was nothing to save")
            click.echo(f"start it again: lgen fit --resume {shlex.quote(str(finished.folder))}")
        sys.exit(INTERRUPTED)
    if quiet:
        return
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    click.echo(
        f"{resolved.model} on {resolved.data}: {finished.images_seen / 1000:g} kimg, {minutes} min {seconds:02d} s"
    )
    for name, score in finished.scores.items():
        if not name.endswith("/std"):
            click.echo(f"  {name:24} {score:.4g}")
    if finished.grid:
        click.echo(f"  {'samples':24} {finished.grid}")
    click.echo(f"  {'run':24} {finished.folder}")
    click.echo(f"more samples: lgen sample {shlex.quote(str(finished.folder))} --n 64 --grid grid.png")


def _number(variable: str) -> int:
    """What a launcher says in the environment; 0 where it says nothing, as a variable that is set to nothing does.

    Raises:
        UserError: no number.
    """
    from lightning_gen.errors import UserError

    said = os.environ.get(variable) or "0"
    try:
        return int(said)
    except ValueError as reason:
        raise UserError(f"the environment variable {variable} is {said!r}: expected a whole number") from reason


def _warn(sentence: str) -> None:
    """Of all that a run says, what is wrong."""
    if sentence.startswith("WARNING"):
        click.echo(sentence, err=True)
