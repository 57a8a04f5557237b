"""`lgen edit`: arithmetic of attributes."""

from __future__ import annotations

import math

import click

from lightning_gen.cli import latents, options, output


@click.command("edit")
@latents.run
@click.option("--input", "named", metavar="IMAGES|DATA", required=True, help="Images to change.")
@click.option("--having", metavar="IMAGES", required=True, help="Images that have the attribute.")
@click.option("--lacking", metavar="IMAGES", required=True, help="Images that lack it, and are else alike.")
@click.option(
    "--amounts", default="-1,0,1", show_default=True, help="How much of the difference to add, a column each."
)
@click.option("--n", type=click.IntRange(min=1), default=8, show_default=True, help="Number of images to change.")
@click.option("--png", metavar="FILE", required=True, help="Write a row for each image: itself, then the amounts.")
@options.plugin
@latents.device
def command(run: str, named: str, having: str, lacking: str, amounts: str, n: int, png: str, device: str) -> None:
    """Add to images the mean difference, in latent space, of images with an attribute and images without."""
    from lightning_gen.errors import UserError

    try:
        columns = [float(word) for word in amounts.split(",")]
    except ValueError:
        raise UserError(f"--amounts {amounts}: numbers with commas, as in -1,0,1") from None
    if not all(map(math.isfinite, columns)):
        raise UserError(f"--amounts {amounts}: must be finite numbers")

    import torch

    from lightning_gen import images, latent

    model, _ = latents.open_model(run, device)
    pixels = latents.pixels(named, model, n)["image"]
    sets = [images.from_uint8(latents.pixels(folder, model)["image"]) for folder in (having, lacking)]
    way = latent.direction(model, *sets)
    codes = latent.latents_of(model, images.from_uint8(pixels))
    drawn = (images.to_uint8(latent.images_of(model, codes + amount * way)).cpu() for amount in columns)
    made = [images.shown(part, latents.kind(model)) for part in drawn]
    rows = torch.stack([images.shown(pixels, latents.kind(model)), *made], dim=1).flatten(0, 1)
    output.write(images.enlarge(images.grid(rows, columns=1 + len(columns))), png, images.save_png)
