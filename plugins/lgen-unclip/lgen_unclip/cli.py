"""`lgen-unclip`: what only a model does that has pictures and sentences in one space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightning_gen.cli.mistakes import Verbs
from lightning_gen.errors import UserError

if TYPE_CHECKING:
    from lgen_unclip.unclip import UnCLIP


run_argument: Any = click.argument("run", metavar="RUN|CKPT")
grid_option: Any = click.option("--grid", metavar="FILE", required=True, help="Where the images go, as one PNG.")
seed_option: Any = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Names the noise."
)
guidance_option: Any = click.option(
    "--guidance", type=click.FloatRange(min=0), help="Of the decoder; the model's own where left out."
)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Variations of a picture, walks between two captions, and scores of a run of unclip."""


@main.command("variations")
@run_argument
@click.argument("picture", metavar="PICTURE")
@click.option("--n", type=click.IntRange(min=1), default=8, show_default=True, help="Number of variations.")
@grid_option
@seed_option
@guidance_option
def variations(run: str, picture: str, n: int, grid: str, seed: int, guidance: float | None) -> None:
    """Other pictures with the embedding of PICTURE, which stands first in the grid."""
    import torch

    from lightning_gen import images
    from lightning_gen.cli import latents

    model = _model(run)
    given = latents.picture(picture, model)
    embedding = model.embed_images(images.from_uint8(given)).expand(n, -1)
    made = model.sample(n, seed=seed, condition={"embedding": embedding}, **_asked(guidance))
    _write(torch.cat([given, images.to_uint8(made)]), grid, None)


@main.command("between")
@run_argument
@click.argument("first", metavar="CAPTION")
@click.argument("second", metavar="CAPTION")
@click.option("--steps", type=click.IntRange(min=2), default=9, show_default=True, help="Images, both ends included.")
@grid_option
@seed_option
@guidance_option
def between(run: str, first: str, second: str, steps: int, grid: str, seed: int, guidance: float | None) -> None:
    """Pictures on the great arc between the embeddings that the prior draws for two captions, all of one noise."""
    import torch

    from lightning_gen import images
    from lightning_gen.latent import spherical

    model = _model(run)
    with model.asked(), torch.no_grad():
        rows = model.latents(2, seed=seed, start=0)[:1].expand(2, -1)
        a, b = model.imagine(rows, [first, second])
    made = [
        model.sample(1, seed=seed, condition={"embedding": spherical(a, b, t)[None]}, **_asked(guidance))
        for t in torch.linspace(0, 1, steps).tolist()
    ]
    _write(images.to_uint8(torch.cat(made)), grid, steps)


@main.command("score")
@run_argument
@click.option(
    "--guidance", "scales", default="1,2,3,5", show_default=True, metavar="X,…", help="Scales to draw every caption at."
)
@click.option("--n", type=click.IntRange(min=1), help="Draw only so many of the sentences.")
@click.option("--plot", metavar="FILE", help="The shares over the guidance scale, as a PNG.")
@click.option("--json", "as_json", is_flag=True, help="Numbers for programs.")
@seed_option
def score(run: str, scales: str, n: int | None, plot: str | None, as_json: bool, seed: int) -> None:
    """Retrieval on the test split, and, on `shapes`, how many pictures show the shape and the colour they should.

    Every sentence there is on `shapes` (384) is drawn once at each scale. What the run never saw (--data.leave_out) is
    counted apart.
    """
    from lgen_unclip import scores
    from lgen_unclip.captions import Captions
    from lightning_gen import checkpoints, scoring, settings

    strengths = _numbers(scales)
    model = _model(run)
    folder = scoring.run_of(checkpoints.find(run))
    if folder is None:
        raise UserError(f"{run} lies in no run directory, which says what data it learnt")
    of_data = settings.read_yaml(str(folder / "run.yaml"))["data"]
    of_source = {key: value for key, value in of_data.items() if key not in ("name", "batch_size", "workers", "split")}
    left_out = of_source.pop("leave_out")
    found: dict[str, Any] = scores.retrieval(model, Captions(**of_source, split="test"), 2000)
    if not of_data["root"]:
        found["guidance"] = {}
        asked = scores.every_caption(n)
        unseen = scores.of_pairs(asked, left_out)
        for strength in strengths:
            right = scores.drawn(model, asked, seed=seed, guidance=strength)
            found["guidance"][strength] = {"seen": right.of(~unseen)}
            if unseen.any():
                found["guidance"][strength]["unseen"] = right.of(unseen)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _tell(found)
    if plot is not None and "guidance" in found:
        _plot(found["guidance"], plot)


def _tell(found: dict[str, Any]) -> None:
    click.echo(
        f"retrieval {found['retrieval']:.1%}: nearest of {found['sentences']} sentences, {found['pictures']} pictures "
        "that were not trained on"
    )
    for strength, parts in found.get("guidance", {}).items():
        for name, shares in parts.items():
            told = "  ".join(f"{what} {share:6.1%}" for what, share in shares.items())
            click.echo(f"guidance {strength:<4g} {name:6}  {told}")


def _plot(guidance: dict[float, dict[str, dict[str, float]]], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, style in (("seen", "-"), ("unseen", ":")):
        for what, colour in (("shape", "tab:blue"), ("colour", "tab:orange"), ("both", "tab:green")):
            points = [(x, parts[name][what]) for x, parts in guidance.items() if name in parts]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=f"{what}, {name}")
    axes.set(xlabel="guidance scale", ylabel="share of images", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as reason:
        raise UserError(f"cannot write --plot {path}: {reason.strerror}") from reason
    click.echo(path)


def _model(run: str) -> UnCLIP:
    from lgen_unclip.unclip import UnCLIP
    from lightning_gen import checkpoints

    model, origin = checkpoints.load_model(checkpoints.find(run))
    if not isinstance(model, UnCLIP):
        raise UserError(f"{run} holds a {origin['model']}, and this is for unclip")
    return model


def _asked(guidance: float | None) -> dict[str, float]:
    return {} if guidance is None else {"guidance": guidance}


def _numbers(scales: str) -> list[float]:
    try:
        found = [float(word) for word in scales.split(",")]
    except ValueError as reason:
        raise UserError(f"--guidance {scales}: numbers with commas in between") from reason
    if min(found) < 0:
        raise UserError(f"--guidance {scales}: 0 or more")
    return found


def _write(pixels: Any, path: str, columns: int | None) -> None:
    from lightning_gen import images

    try:
        images.save_png(images.enlarge(images.grid(pixels, columns)), Path(path))
    except OSError as reason:
        raise UserError(f"cannot write --grid {path}: {reason.strerror}") from reason
    click.echo(path)
