"""`lgen decode`: latents to images."""

from __future__ import annotations

from pathlib import Path

import click

from lightning_gen.cli import latents, options, output


@click.command("decode")
@latents.run
@click.argument("file", metavar="FILE.npz")
@click.option("--out", metavar="DIR", help="Write each image as a PNG, named by its index.")
@click.option("--grid", metavar="FILE", help="Write all images as one PNG.")
@options.label
@options.plugin
@latents.device
def command(run: str, file: str, out: str | None, grid: str | None, label: str | None, device: str) -> None:
    """Make the images of `latents` (N, ...) in an .npz file, such as `lgen encode` and `lgen project` write."""
    from lightning_gen.errors import UserError

    if out is None and grid is None:
        raise UserError("where to? --out DIR for single images, --grid FILE for one sheet")
    if not Path(file).is_file():
        raise UserError(f"there is no file {file}")

    import numpy as np
    import torch

    from lightning_gen import images
    from lightning_gen.module import GenerativeModule

    model, name = latents.open_model(run, device, vectors=False)
    wanted = options.of_classes(model, label)
    kind = latents.kind(model)
    if model.translates:
        raise UserError(f"{name} makes images of pictures, not of latents: `lgen translate` takes yours")
    if kind == "points" and out is not None:
        raise UserError(f"{name} draws points of the plane: --grid FILE shows them all in one picture")
    if type(model).decode is GenerativeModule.decode:  # codes know of which class they are
        latents.require_label(model, wanted)
    try:
        with np.load(file, allow_pickle=False) as content:
            found = torch.from_numpy(content["latents"])
    except Exception as reason:  # a damaged zip raises half a dozen different types
        raise UserError(f"{file} holds no array `latents`") from reason
    if found.ndim == 0 or len(found) == 0:
        raise UserError(f"{file} holds no latents: its array is {'empty' if found.ndim else 'a single number'}")
    if found.is_floating_point():
        found = found.float()  # arithmetic in NumPy easily makes them double
    made = []
    with torch.no_grad(), model.asked():
        for part in found.to(device).split(64):
            torch.manual_seed(0)
            condition = None if wanted is None else {"label": torch.full((len(part),), wanted, device=device)}
            try:
                made.append(images.as_stored(model.decode(part, condition), kind).cpu())
            except (RuntimeError, IndexError, ValueError) as reason:
                shape = " x ".join(map(str, found.shape[1:])) or "single numbers"
                raise UserError(f"{file}: {shape} of {found.dtype} are no latents of {name}") from reason
    pixels = torch.cat(made)
    if out is not None:
        output.write_folder(pixels, out, kind)
    if grid is not None:
        output.write(images.enlarge(images.sheet(pixels, kind)), grid, images.save_png)
