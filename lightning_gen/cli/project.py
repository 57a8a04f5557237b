"""`lgen project`: where in a latent space an image lies."""

from __future__ import annotations

import click

from lightning_gen.cli import latents, options, output


@click.command("project")
@latents.run
@latents.given
@latents.few
@click.option("--steps", type=click.IntRange(min=0), default=200, show_default=True, help="Of gradient descent.")
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    callback=options.finite,
    default=0.05,
    show_default=True,
    help="Their size.",
)
@click.option("--png", metavar="FILE", help="Write the images above what the latents make.")
@click.option("--out", metavar="FILE.npz", help="Write the latents.")
@latents.seed
@options.label
@options.plugin
@latents.device
def command(
    run: str,
    named: str,
    n: int,
    steps: int,
    lr: float,
    png: str | None,
    out: str | None,
    seed: int,
    label: str | None,
    device: str,
) -> None:
    """Search for the latents whose images come nearest to given ones: the inverse of a generator."""
    from lightning_gen.errors import UserError

    if png is None and out is None:
        raise UserError("where to? --png FILE for pictures, --out FILE.npz for latents")

    import torch

    from lightning_gen import images, latent
    from lightning_gen.metrics import paired

    model, _ = latents.open_model(run, device)
    wanted = options.of_classes(model, label)
    latents.require_label(model, wanted)
    kind = latents.kind(model)
    pixels = latents.pixels(named, model, n)["image"]
    targets = images.from_uint8(pixels)
    found, _ = latent.project(model, targets, steps=steps, lr=lr, seed=seed, label=wanted)
    made = images.to_uint8(latent.images_of(model, found, wanted, seed)).cpu()
    psnr = f", PSNR {paired.psnr(made, pixels):.2f} decibels" if kind == "image" else ""
    click.echo(f"{output.counted(len(pixels), kind)}{psnr} after {steps} steps")
    if png is not None:
        both = images.shown(torch.cat([pixels, made]), kind)
        output.write(images.enlarge(images.grid(both, columns=len(pixels))), png, images.save_png)
    if out is not None:
        output.write({"latents": found.cpu().numpy()}, out, output.write_arrays)
