"""`lgen export`: the generator of a run as a file that other programs read."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightning_gen.cli import options

if TYPE_CHECKING:
    from lightning_gen.module import GenerativeModule

FORMS = {"safetensors": ".safetensors", "onnx": ".onnx", "torchscript": ".pt"}


@click.command("export")
@click.argument("run", metavar="RUN|CKPT")
@click.option("--format", "form", type=click.Choice(list(FORMS)), default="safetensors", show_default=True)
@click.option("--out", metavar="FILE", help="Where to; the model's name, here, by default.")
@options.plugin
def command(run: str, form: str, out: str | None) -> None:
    """Write a run's model (its last checkpoint) for other programs.

    onnx and torchscript hold the averaged generator, from latents (and labels) or pictures to images in [-1, 1], any
    number at once. safetensors holds the weights of the model; `lgen sample FILE` and the others read it. Every file is
    compared with what the model draws before it is there.
    """
    from lightning_gen import checkpoints

    found = checkpoints.find(run)
    model, origin = checkpoints.load_model(found)
    name: str = origin["model"]
    path = Path(out or f"{name}{FORMS[form]}")
    if form == "safetensors":
        _weights(model, found, path)
        return
    from lightning_gen.sharing import graph

    written = graph.write(model, form, path)
    taken = ", ".join(f"{key} {_shape(shape)}" for key, shape in written.inputs.items())
    click.echo(f"{path}: {taken} to images {_shape(written.image_shape)} in [-1, 1]")
    click.echo(f"differs from the model by at most {written.difference:.1e} on {graph.CHECKED} images")


def _weights(model: GenerativeModule, found: Path, path: Path) -> None:
    """Written beside its place, read again and sampled before it gets there."""
    import torch

    from lightning_gen import checkpoints, files
    from lightning_gen.errors import UserError
    from lightning_gen.sharing import weights

    if path.suffix != weights.SUFFIX:
        raise UserError(f"--out {path}: weights are read again by their ending, {weights.SUFFIX}")
    try:
        with files.replacing(path) as unfinished:
            weights.write(unfinished, checkpoints.read(found))
            again, _ = checkpoints.load_model(unfinished)
            if not model.translates and not torch.equal(again.sample(2, seed=1), model.sample(2, seed=1)):
                raise UserError("the written weights draw other images: nothing was written")
    except OSError as reason:
        raise UserError(f"cannot write {path}: {reason.strerror}") from reason
    count = sum(weight.numel() for weight in model.parameters())
    click.echo(f"{path}: {count:,} numbers; lgen sample {shlex.quote(str(path))} --grid grid.png")


def _shape(row: tuple[Any, ...]) -> str:
    return f"(n{''.join(f', {side}' for side in row)})"
