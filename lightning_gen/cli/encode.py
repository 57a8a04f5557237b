"""`lgen encode`: images to latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lightning_gen.cli import latents, options, output


@click.command("encode")
@latents.run
@latents.given
@click.option("--n", type=click.IntRange(min=1), help="Number of images; all.")
@click.option("--out", metavar="FILE.npz", help="Write `latents`, and `label` where there are labels.")
@click.option("--plot", metavar="FILE", help="Write their first two principal components as a picture, by label.")
@click.option(
    "--map", "chart", type=click.Choice(["pca", "umap"]), default="pca", help="Another map of them; umap is an extra."
)
@options.plugin
@latents.device
def command(run: str, named: str, n: int | None, out: str | None, plot: str | None, chart: str, device: str) -> None:
    """Encode images: vectors of an autoencoder, codes of a VQ-VAE. `lgen decode` is the way back."""
    from lightning_gen.errors import UserError

    if out is None and plot is None:
        raise UserError("where to? --out FILE.npz for latents, --plot FILE for a picture of them")

    if plot is not None and chart == "umap":
        _umap()

    import torch

    from lightning_gen import images, latent

    model, name = latents.open_model(run, device, vectors=False)
    batch = latents.pixels(named, model, n)
    found = torch.cat([latent.latents_of(model, images.from_uint8(part)).cpu() for part in batch["image"].split(64)])
    if plot is not None and (not found.is_floating_point() or found[0].numel() < 2 or len(found) < 3):
        raise UserError(f"--plot: needs three images at least, and latents with directions; those of {name} are codes")
    click.echo(f"{output.counted(len(found))} to {' x '.join(map(str, found.shape[1:]))} {str(found.dtype)[6:]} each")
    if out is not None:
        arrays = {"latents": found.numpy()} | ({"label": batch["label"].numpy()} if "label" in batch else {})
        output.write(arrays, out, output.write_arrays)
    if plot is not None:
        if chart == "umap":
            places = _umap()(n_neighbors=min(15, len(found) - 1), random_state=0, n_jobs=1).fit_transform(
                found.flatten(1)
            )
            titles = ["UMAP, first", "UMAP, second"]
        else:
            places, share = latent.principal(found.flatten(1))
            click.echo(f"two principal components hold {share.sum():.1%} of the variance")
            titles = [f"first component, {share[0]:.1%} of the variance", f"second component, {share[1]:.1%}"]
        output.write((places, titles, batch.get("label")), plot, _plot)


def _umap() -> Any:
    from lightning_gen.errors import UserError

    try:
        from umap import UMAP
    except ImportError:
        raise UserError("--map umap needs a package: pip install 'lightning-gen[umap]' (pca needs none)") from None
    return UMAP


def _plot(content: tuple[Any, Any, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    from lightning_gen import files

    places, titles, label = content
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    colours = {} if label is None else {"c": label, "cmap": "tab20"}
    axes.scatter(places[:, 0], places[:, 1], s=6, **colours)
    axes.set(xlabel=titles[0], ylabel=titles[1])
    with files.replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)
