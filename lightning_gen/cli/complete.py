"""`lgen complete`: draw the hidden part of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightning_gen.cli import latents, options, output

if TYPE_CHECKING:
    from torch import Tensor


@click.command("complete")
@latents.run
@latents.given
@latents.few
@click.option(
    "--hidden",
    type=click.Choice(["bottom", "right", "left", "top"]),
    default="bottom",
    show_default=True,
    help="Side of the images that is drawn anew.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    callback=options.finite,  # NaN is out of no range
    default=0.5,
    show_default=True,
    help="How much of them that is.",
)
@click.option("--draws", type=click.IntRange(min=1), default=3, show_default=True, help="Completions of each image.")
@click.option("--png", metavar="FILE", help="Write a row for each image: itself, what is known of it, completions.")
@click.option("--out", metavar="DIR", help="Write each completion as a PNG, named by image and draw.")
@latents.seed
@options.label
@options.plugin
@latents.device
def command(
    run: str,
    named: str,
    n: int,
    hidden: str,
    share: float,
    draws: int,
    png: str | None,
    out: str | None,
    seed: int,
    label: str | None,
    device: str,
) -> None:
    """Draw the hidden part of images by an autoregressive model; the known pixels stay as they are.

    Pixels are drawn row by row, each given those before it. So the completion of a hidden bottom is a draw from the
    model's conditional distribution; of what is known below or right of a hidden pixel nothing is heard.
    """
    from lightning_gen.errors import UserError

    if png is None and out is None:
        raise UserError("where to? --png FILE for a sheet, --out DIR for single images")

    import torch

    from lightning_gen import images

    model, name = latents.open_model(run, device, vectors=False)
    wanted = options.of_classes(model, label)
    if not model.completes:
        raise UserError(f"{name} completes no images: autoregressive models do, such as pixelcnn")
    latents.require_label(model, wanted)
    pixels = latents.pixels(named, model, n)["image"]
    known = visible(model.image_shape, hidden, share).expand(len(pixels), -1, -1, -1)
    condition = {"image": pixels, "known": known}
    if wanted is not None:
        condition["label"] = torch.full((len(pixels),), wanted)
    completions = []
    for draw in range(draws):
        sample = model.sample(len(pixels), seed=seed, start=draw * len(pixels), condition=condition)
        completions.append(torch.where(known, pixels, images.to_uint8(sample).cpu()))
    click.echo(f"{output.counted(len(pixels))}, {draws} completions each")
    if png is not None:
        grey = torch.full_like(pixels, 128)
        rows = torch.stack([pixels, torch.where(known, pixels, grey), *completions], dim=1).flatten(0, 1)
        output.write(images.enlarge(images.grid(rows, columns=2 + draws)), png, images.save_png)
    if out is not None:
        for draw, completed in enumerate(completions):
            for i, image in enumerate(completed):
                output.attempt(image, str(Path(out) / f"{i:06d}-{draw}.png"), images.save_png)
        click.echo(out)


def visible(shape: tuple[int, int, int], hidden: str, share: float) -> Tensor:
    """Which pixels of an image are known, (1, 1, H, W) bool; at least one row or column is hidden.

    Raises:
        UserError: nothing would be known.
    """
    import torch

    from lightning_gen.errors import UserError

    _, height, width = shape
    side = height if hidden in ("bottom", "top") else width
    count = max(1, round(share * side))
    if count == side:
        raise UserError(f"--share {share:g} hides all: `lgen sample` draws whole images")
    known = torch.ones(1, 1, height, width, dtype=torch.bool)
    gone = {"bottom": (..., slice(side - count, None), slice(None)), "top": (..., slice(count), slice(None)),
            "right": (..., slice(side - count, None)), "left": (..., slice(count))}  # fmt: skip
    known[gone[hidden]] = False
    return known
