"""`lgen interpolate`: the images between images."""

from __future__ import annotations

import click

from lightning_gen.cli import latents, options, output


@click.command("interpolate")
@latents.run
@click.option(
    "--between", metavar="I,J,…", default="0,1,2,3", show_default=True, help="Images of the stream of --seed."
)
@click.option("--image", "files", multiple=True, metavar="FILE", help="An image to encode, in the place of --between.")
@click.option("--steps", type=click.IntRange(min=1), default=8, show_default=True, help="From one to the next.")
@click.option("--how", type=click.Choice(["linear", "spherical"]), help="Spherical; linear between encoded images.")
@click.option("--png", metavar="FILE", help="Write a strip: one row from each image to the next.")
@click.option("--gif", metavar="FILE", help="Write an animation.")
@click.option("--mp4", metavar="FILE", help="Write a film; needs the extra `video`.")
@options.truncation
@latents.seed
@options.label
@options.plugin
@latents.device
def command(
    run: str,
    between: str,
    files: tuple[str, ...],
    steps: int,
    how: str | None,
    png: str | None,
    gif: str | None,
    mp4: str | None,
    truncation: float | None,
    seed: int,
    label: str | None,
    device: str,
) -> None:
    """Walk through the latent space of a run or checkpoint, between images of its stream or images of yours."""
    from lightning_gen.errors import UserError

    if png is None and gif is None and mp4 is None:
        raise UserError("where to? --png FILE for a strip, --gif or --mp4 FILE for an animation")
    if mp4 is not None:
        output.film_encoder()
    try:
        places = [int(word) for word in between.split(",")]
    except ValueError:
        raise UserError(f"--between {between}: numbers with commas, as in 0,7,13") from None
    if min(places) < 0:
        raise UserError(f"--between {between}: images count from 0")
    if len(files or places) < 2:
        raise UserError("between two images at least: --between I,J or --image twice")

    import torch

    from lightning_gen import images, latent

    model, name = latents.open_model(run, device)
    wanted = options.of_classes(model, label)
    if files:
        pixels = torch.cat([latents.picture(file, model) for file in files])
        ends = latent.latents_of(model, images.from_uint8(pixels)).cpu()
    else:
        ends = torch.cat([model.latents(1, seed=seed, start=place) for place in places])
    path = latent.spherical if (how or ("linear" if files else "spherical")) == "spherical" else latent.linear
    asked = options.of_generate(model, name, truncation=truncation)
    made = images.to_uint8(latent.images_of(model, latent.walk(ends, steps, path), wanted, seed, **asked)).cpu()
    frames = images.shown(made, latents.kind(model))
    if png is not None:
        rows = [frames[first : first + steps + 1] for first in range(0, len(frames) - 1, steps)]
        output.write(images.enlarge(images.grid(torch.cat(rows), columns=steps + 1)), png, images.save_png)
    if gif is not None:
        output.write(frames, gif, output.write_gif)
    if mp4 is not None:
        output.write(frames, mp4, output.write_mp4)
