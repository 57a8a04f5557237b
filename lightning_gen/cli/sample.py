"""`lgen sample`: draw images from a run or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lightning_gen.cli import options, output


@click.command("sample")
@click.argument("run", metavar="RUN|CKPT")
@click.option("--n", type=click.IntRange(min=1), default=64, show_default=True, help="Number of images.")
@click.option("--seed", type=options.NUMBER, default=0, show_default=True, help="Names the stream of images.")
@click.option("--start", type=options.NUMBER, default=0, show_default=True, help="First image of the stream.")
@click.option("--out", metavar="DIR", help="Write each image as a PNG, named by its index.")
@click.option("--grid", metavar="FILE", help="Write all images as one PNG.")
@options.label
@options.truncation
@options.guidance
@options.own
@click.option("--caption", metavar="TEXT", help="What every image is to show, for a model that reads captions.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=256, show_default=True, help="Drawn at once; changes nothing."
)
@options.plugin
@click.option(
    "--device", type=options.DEVICE, default="cpu", show_default=True, help="Where to draw: cpu, cuda, cuda:1."
)
def command(
    run: str,
    n: int,
    seed: int,
    start: int,
    out: str | None,
    grid: str | None,
    label: str | None,
    truncation: float | None,
    guidance: float | None,
    own: tuple[str, ...],
    caption: str | None,
    batch_size: int,
    device: str,
) -> None:
    """Draw images from a run (its last checkpoint) or a checkpoint file. Image i of seed s is always the same."""
    from lightning_gen.errors import UserError

    if out is None and grid is None:
        raise UserError("where to? --out DIR for single images, --grid FILE for one sheet")
    # before hours of drawing, and before one of the two is written
    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"--out {out} is no folder")
    if grid is not None and Path(grid).is_dir():
        raise UserError(f"--grid {grid} is a folder: name a file")
    if start + n > 2**64:
        raise UserError(f"--start {start} --n {n}: a stream has 2^64 images")
    if not Path(run).exists():
        raise UserError(f"there is no run or checkpoint {run}")

    import torch
    from rich.progress import track

    from lightning_gen import checkpoints, images

    model, origin = checkpoints.load_model(checkpoints.find(run), device)
    wanted = options.of_classes(model, label)
    if caption is not None and not model.captioned:
        raise UserError(f"{origin['model']} reads no captions: --caption means nothing to it")
    kind = origin.get("kind", "image")
    if kind == "points" and out is not None:
        raise UserError(f"{origin['model']} draws points of the plane: --grid FILE shows them all in one picture")
    asked = options.of_generate(model, origin["model"], truncation=truncation, guidance=guidance)
    asked |= options.of_its_own(model, origin["model"], own)
    drawn = []
    for first in track(range(0, n, batch_size), description="drawing", disable=n <= batch_size, transient=True):
        count = min(batch_size, n - first)
        condition: dict[str, Any] = {}
        if wanted is not None:
            condition["label"] = torch.full((count,), wanted)
        if caption is not None:
            condition["caption"] = [caption] * count
        sample = model.sample(count, seed=seed, start=start + first, condition=condition or None, **asked)
        drawn.append(images.as_stored(sample, kind).cpu())
    pixels = torch.cat(drawn)
    if out is not None:
        output.write_folder(pixels, out, kind, first=start)
    if grid is not None:
        output.write(images.enlarge(images.sheet(pixels, kind)), grid, images.save_png)
