"""What the verbs about latent spaces share: which model, which images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightning_gen.cli import options, output

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_gen.module import GenerativeModule

run: Any = click.argument("run", metavar="RUN|CKPT")
given: Any = click.option(
    "--input", "named", metavar="IMAGES|DATA", required=True, help="An image, folder, archive or data source."
)
few: Any = click.option("--n", type=click.IntRange(min=1), default=8, show_default=True, help="Number of images.")
seed: Any = click.option("--seed", type=options.NUMBER, default=0, show_default=True, help="Names the stream.")
device: Any = click.option(
    "--device", type=options.DEVICE, default="cpu", show_default=True, help="Where to compute: cpu, cuda, cuda:1."
)


def open_model(run: str, device: str, vectors: bool = True) -> tuple[GenerativeModule, str]:
    """The model of a run and its name; with `vectors` one that has a latent space.

    Raises:
        UserError: no such run, or no latent space.
    """
    from lightning_gen import checkpoints, latent

    model, origin = checkpoints.load_model(checkpoints.find(run), device)
    name: str = origin["model"]
    if vectors:
        latent.require(model, name)
    return model, name


def require_label(model: GenerativeModule, label: int | None) -> None:
    """Of a model that draws classes.

    Raises:
        UserError: there is none.
    """
    from lightning_gen.errors import UserError

    if label is None and model.num_classes:
        raise UserError("the model draws classes: --label CLASS says of which one the images are")


def kind(model: GenerativeModule) -> str:
    """What the model was trained on: image, volume or points."""
    found: str = model.origin.get("kind", "image")
    return found


def picture(path: str, model: GenerativeModule) -> Tensor:
    """One image file, brought to the model's size: (1, *image_shape) uint8.

    Raises:
        UserError: no such file, or none that can be read as an image.
    """
    import torch

    from lightning_gen.data import pictures
    from lightning_gen.errors import UserError

    file = Path(path)
    if kind(model) != "image":
        raise UserError(f"{path}: the model makes {output.plural(kind(model))}, not pictures")
    if not file.is_file():
        raise UserError(f"there is no image {path}")
    channels, _, side = model.image_shape
    try:
        return torch.from_numpy(pictures.decode(file.read_bytes(), side, channels)[0])[None]
    except Exception as reason:  # decoders raise whatever they like on damaged bytes
        raise UserError(f"the image {path} cannot be read ({pictures.why(reason)})") from reason


def pixels(named: str, model: GenerativeModule, n: int | None = None) -> dict[str, Any]:
    """A batch (`image` uint8, perhaps `label`) of the first `n` images of an image file, a folder or archive, or a
    registered data source, at the model's size.

    Raises:
        UserError: nothing of that name, or nothing that the model's size fits.
    """
    import numpy as np

    from lightning_gen import registry, scoring
    from lightning_gen.data import archive, pictures
    from lightning_gen.errors import UserError, nearest, said_as

    channels, _, side = model.image_shape
    path = Path(named)
    if named in registry.names("data"):
        source = scoring.registered_source(named, {"resolution": side, "channels": channels})
    elif path.is_file() and pictures.is_image(path.name):
        return {"image": picture(named, model)}
    elif archive.is_there(named):
        with said_as({"--data.root ": ""}):
            source = registry.make("folder", "data", root=named, resolution=side, channels=channels, split="all")
    else:
        similar = nearest(named, registry.names("data"))
        raise UserError(f"{named}: no data source{similar}, and no such image, folder or archive")
    if tuple(source.image_shape) != tuple(model.image_shape):
        ours, theirs = (" x ".join(map(str, shape)) for shape in (model.image_shape, source.image_shape))
        raise UserError(f"{named} has images of {theirs}, and the model knows {ours}")
    return source.read(np.arange(min(n or len(source), len(source))))
