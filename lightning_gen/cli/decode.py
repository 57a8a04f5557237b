"""`lgen decode`: latents to images."""

from __future__ import annotations

from pathlib import Path

import click

from lightning_gen.cli import latents, options


@click.command("decode")
@latents.run
@click.argument("file", metavar="FILE.npz")
@click.option("--out", metavar="DIR", help="Write each image as a PNG, named by its index.")
@click.option("--grid", metavar="FILE", help="Write all images as one PNG.")
@latents.label
@options.plugin
@latents.device
def command(run: str, file: str, out: str | None, grid: str | None, label: int | None, device: str) -> None:
    """Make the images of `latents` (N, ...) in an .npz file, such as `lgen encode` and `lgen project` write."""
    from lightning_gen.errors import UserError

    if out is None and grid is None:
        raise UserError("where to? --out DIR for single images, --grid FILE for one sheet")
    if not Path(file).is_file():
        raise UserError(f"there is no file {file}")

    import numpy as np
    import torch

    from lightning_gen import images

    model, name = latents.open_model(run, device, label, vectors=False)
    try:
        with np.load(file, allow_pickle=False) as content:
            found = torch.from_numpy(content["latents"])
    except Exception as reason:  # a damaged zip raises half a dozen different types
        raise UserError(f"{file} holds no array `latents`") from reason
    made = []
    with torch.no_grad(), model.asked():
        for part in found.to(device).split(64):
            torch.manual_seed(0)
            condition = None if label is None else {"label": torch.full((len(part),), label, device=device)}
            try:
                made.append(images.to_uint8(model.decode(part, condition)).cpu())
            except (RuntimeError, IndexError, ValueError) as reason:
                shape = " x ".join(map(str, found.shape[1:])) or "single numbers"
                raise UserError(f"{file}: {shape} of {found.dtype} are no latents of {name}") from reason
    pixels = torch.cat(made)
    if out is not None:
        for i, image in enumerate(pixels):
            images.save(image, Path(out) / f"{i:06d}", latents.kind(model))
        click.echo(f"{len(pixels)} images in {out}")
    if grid is not None:
        latents.write(images.enlarge(images.sheet(pixels, latents.kind(model))), grid, images.save_png)
