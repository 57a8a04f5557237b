"""`lgen-voxel`: meshes of generated solids, solids from pictures, and how well a run covers held-out ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightning_gen.cli.mistakes import Verbs
from lightning_gen.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_gen.module import GenerativeModule


REBUILT = "held-out solids from a picture"
"""Row of `score` that only models with an encoder have."""


seed_option: Any = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Names the stream of latents."
)
format_option: Any = click.option(
    "--format", "form", type=click.Choice(["obj", "glb"]), default="obj", show_default=True, help="Kind of file."
)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Meshes, pictures and scores of solids."""


@main.command("mesh")
@click.argument("run", metavar="RUN|CKPT")
@click.option("--n", type=click.IntRange(min=1), default=8, show_default=True, help="Number of solids.")
@seed_option
@format_option
@click.option("--out", metavar="DIR", required=True, help="Where the files go, 000000.obj and so on.")
def mesh(run: str, n: int, seed: int, form: str, out: str) -> None:
    """Draw solids and write their surfaces: marching cubes over the occupancy that the generator gives."""
    from lgen_voxel import meshes

    solids = (_model(run).sample(n, seed=seed) + 1) / 2
    empty = 0
    for i, solid in enumerate(solids.cpu()):
        if float(solid.max()) <= meshes.LEVEL:
            empty += 1
        else:
            _writing(Path(out) / f"{i:06d}.{form}", lambda path, solid=solid: meshes.write(solid.numpy(), path))
    click.echo(f"{n - empty} meshes in {out}" + (f"; {empty} solids are empty" if empty else ""))


@main.command("build")
@click.argument("run", metavar="RUN|CKPT")
@click.argument("picture", metavar="PICTURE")
@click.option("--grid", metavar="FILE", help="The picture and what it became, side by side, as a PNG.")
@click.option("--out", metavar="FILE", help="The solid as a mesh, .obj or .glb.")
def build(run: str, picture: str, grid: str | None, out: str | None) -> None:
    """Make the solid that a picture shows, by a run of voxel-vae-gan: a render as `lgen-voxel render` makes them."""
    import torch

    from lgen_voxel import meshes
    from lgen_voxel.vae_gan import VoxelVAEGAN
    from lightning_gen import images, volumes
    from lightning_gen.data import pictures

    if grid is None and out is None:
        raise UserError("where to? --grid FILE for a picture, --out FILE for a mesh")
    model = _model(run)
    if not isinstance(model, VoxelVAEGAN):
        raise UserError(f"{run} holds a {model.origin['model']}, which sees no pictures: voxel-vae-gan does")
    if not Path(picture).is_file():
        raise UserError(f"there is no picture {picture}")
    side = model.hparams.picture
    try:
        given = torch.from_numpy(pictures.decode(Path(picture).read_bytes(), side, 3)[0])[None]
    except Exception as reason:  # decoders raise whatever they like on damaged bytes
        raise UserError(f"{picture} cannot be read as a picture") from reason
    with torch.no_grad(), model.asked():
        made = model.decode(model.of_pictures(images.from_uint8(given)))
    if grid is not None:
        seen = images.beside([given, volumes.render(images.to_uint8(made))])
        _writing(Path(grid), lambda path: images.save_png(images.enlarge(seen, 256), path))
        click.echo(grid)
    if out is not None:
        _writing(Path(out), lambda path: meshes.write(((made[0] + 1) / 2).numpy(), path))
        click.echo(out)


@main.command("render")
@click.argument("solid", metavar="FILE.npy")
@click.option("--side", type=click.IntRange(min=8), default=64, show_default=True, help="Pixels a side.")
@click.option("--out", metavar="FILE", required=True, help="The picture, as a PNG.")
def render(solid: str, side: int, out: str) -> None:
    """Make a picture of a solid, (X, Y, Z) of zeros and ones, such as `lgen sample RUN --out DIR` writes."""
    import torch

    from lgen_voxel.voxels import array
    from lightning_gen import images, volumes

    if not Path(solid).is_file():
        raise UserError(f"there is no file {solid}")
    volume = torch.from_numpy(array(Path(solid).read_bytes(), solid))
    seen = volumes.render(volume[None].to(torch.uint8) * 255, side)[0]
    _writing(Path(out), lambda path: images.save_png(seen, path))
    click.echo(out)


@main.command("score")
@click.argument("run", metavar="RUN|CKPT")
@click.option("--n", type=click.IntRange(min=1), help="Solids to draw; as many as are held out where left out.")
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Numbers for programs.")
def score(run: str, n: int | None, seed: int, as_json: bool) -> None:
    """Coverage and minimum matching distance against the test split of the run's data, and the same of as many solids
    of the training split, which is about what can be reached. For voxel-vae-gan also the overlap (intersection over
    union) of held-out solids and what it makes of pictures of them."""
    import numpy as np

    from lgen_voxel import scores
    from lgen_voxel.vae_gan import VoxelVAEGAN
    from lightning_gen import images

    model = _model(run)
    held_out, trained = (_data(run, split) for split in ("test", "train"))
    right = held_out.read(np.arange(len(held_out)))["image"] >= 128
    count = n or len(held_out)
    drawn = images.to_uint8(model.sample(count, seed=seed)).cpu() >= 128
    known = trained.read(np.linspace(0, len(trained) - 1, min(count, len(trained))).astype(np.int64))["image"] >= 128
    rows = {
        f"{model.origin['model']}, {count} solids": drawn,
        f"training set, {len(known)} solids": known,
        "the most usual solid alone": _usual(known),
    }
    if isinstance(model, VoxelVAEGAN):
        rows[REBUILT] = scores.rebuilt(model, right)
    found = {name: scores.compared(solids, right) for name, solids in rows.items()}
    if REBUILT in rows:
        found[REBUILT]["overlap"] = float(1 - scores.distances(rows[REBUILT], right).diag().mean())
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"against {len(held_out)} held-out solids of {held_out.title}")
    for name, numbers in found.items():
        click.echo(f"{name:32}  " + "  ".join(f"{key} {value:.3f}" for key, value in numbers.items()))


def _usual(solids: Tensor) -> Tensor:
    """The one solid with the least mean distance to all others: what a collapsed model would do best to draw."""
    from lgen_voxel import scores

    return solids[scores.distances(solids, solids).mean(1).argmin()][None]


def _model(run: str) -> GenerativeModule:
    from lightning_gen import checkpoints

    model, origin = checkpoints.load_model(checkpoints.find(run))
    if origin.get("kind") != "volume":
        raise UserError(f"{run} holds a {origin['model']}, which draws no volumes")
    return model


def _data(run: str, split: str) -> Any:
    from lgen_voxel.voxels import Voxels
    from lightning_gen import checkpoints, scoring, settings

    folder = scoring.run_of(checkpoints.find(run))
    if folder is None:
        raise UserError(f"{run} lies in no run directory, which says what data it learnt")
    of_data = settings.read_yaml(str(folder / "run.yaml"))["data"]
    if of_data["name"] != "voxels":
        raise UserError(f"{run} learnt {of_data['name']}, not voxels")
    asked = {key: of_data[key] for key in ("root", "resolution", "only", "size")}
    return Voxels(**asked, split=split)


def _writing(path: Path, write: Any) -> None:
    try:
        write(path.expanduser())
    except OSError as reason:
        raise UserError(f"cannot write {path}: {reason.strerror or reason}") from reason
