"""`lgen traverse`: what each dimension of a latent space does."""

from __future__ import annotations

import click

from lightning_gen.cli import latents, options, output


@click.command("traverse")
@latents.run
@click.option("--dimensions", metavar="I,J,…", help="Which; the first 10 by default.")
@click.option("--steps", type=click.IntRange(min=2), default=9, show_default=True, help="Images in a row.")
@click.option(
    "--reach",
    type=float,
    callback=options.finite,
    default=2.5,
    show_default=True,
    help="How far either way, in deviations.",
)
@click.option("--start", type=options.NUMBER, default=0, show_default=True, help="Which image of the stream.")
@click.option("--image", metavar="FILE", help="An image to encode and start from, in its place.")
@click.option("--png", metavar="FILE", required=True, help="Write one row for each dimension.")
@latents.seed
@options.label
@options.plugin
@latents.device
def command(
    run: str,
    dimensions: str | None,
    steps: int,
    reach: float,
    start: int,
    image: str | None,
    png: str,
    seed: int,
    label: str | None,
    device: str,
) -> None:
    """Move one latent dimension at a time and leave the others: one row of images for each."""
    from lightning_gen.errors import UserError

    try:
        chosen = [int(word) for word in dimensions.split(",")] if dimensions else []
    except ValueError:
        raise UserError(f"--dimensions {dimensions}: numbers with commas, as in 0,1,5") from None

    from lightning_gen import images, latent

    model, name = latents.open_model(run, device)
    wanted = options.of_classes(model, label)
    size = latent.require(model, name)
    chosen = chosen or list(range(min(10, size)))
    if not all(0 <= dimension < size for dimension in chosen):
        raise UserError(f"--dimensions {dimensions}: the latents of {name} have dimensions 0 to {size - 1}")
    if image is None:
        at = model.latents(1, seed=seed, start=start)[0]
    else:
        at = latent.latents_of(model, images.from_uint8(latents.picture(image, model)))[0]
    rows = latent.traverse(model, at, chosen, steps, reach)
    made = images.to_uint8(latent.images_of(model, rows.flatten(0, 1), wanted, seed)).cpu()
    frames = images.shown(made, latents.kind(model))
    output.write(images.enlarge(images.grid(frames, columns=steps)), png, images.save_png)
