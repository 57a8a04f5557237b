"""What the verbs about latent spaces share: which model, which images, where to write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightning_gen.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_gen.module import GenerativeModule

run: Any = click.argument("run", metavar="RUN|CKPT")
given: Any = click.option(
    "--input", "named", metavar="IMAGES|DATA", required=True, help="An image, folder, archive or data source."
)
few: Any = click.option("--n", type=click.IntRange(min=1), default=8, show_default=True, help="Number of images.")
seed: Any = click.option("--seed", type=options.NUMBER, default=0, show_default=True, help="Names the stream.")
label: Any = click.option("--label", type=click.IntRange(min=0), help="Class of every image, for a conditional model.")
KINDS = {"volume": "volumes", "points": "points"}
device: Any = click.option(
    "--device", type=options.DEVICE, default="cpu", show_default=True, help="Where to compute: cpu, cuda, cuda:1."
)


def open_model(run: str, device: str, label: int | None = None, vectors: bool = True) -> tuple[GenerativeModule, str]:
    """The model of a run and its name; with `vectors` one that has a latent space.

    Raises:
        UserError: no such run, a label that the model does not know, or no latent space.
    """
    from lightning_gen import checkpoints, latent
    from lightning_gen.errors import UserError

    model, origin = checkpoints.load_model(checkpoints.find(run), device)
    name: str = origin["model"]
    if vectors:
        latent.require(model, name)
    if label is not None and not model.num_classes:
        raise UserError(f"{name} is not conditional: --label means nothing to it")
    if label is not None and label >= model.num_classes:
        raise UserError(f"--label {label}: the model knows classes 0 to {model.num_classes - 1}")
    return model, name


def require_label(model: GenerativeModule, label: int | None) -> None:
    """Of a model that draws classes.

    Raises:
        UserError: there is none.
    """
    from lightning_gen.errors import UserError

    if label is None and model.num_classes:
        raise UserError("the model draws classes: --label K says of which one the images are")


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
        raise UserError(f"{path}: the model makes {KINDS[kind(model)]}, not pictures")
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


def write(content: Any, path: str, how: Any) -> None:
    """`attempt`, and say which file there is now."""
    attempt(content, path, how)
    click.echo(path)


def attempt(content: Any, path: str, how: Any) -> None:
    """Call `how(content, PATH)`.

    Raises:
        UserError: it cannot be written.
    """
    from lightning_gen.errors import UserError

    try:
        how(content, Path(path))
    except OSError as reason:
        raise UserError(f"cannot write {reason.filename or path}: {reason.strerror}") from reason


def write_arrays(arrays: dict[str, Any], path: Path) -> None:
    """An .npz of plain arrays, whole or not at all."""
    import numpy as np

    from lightning_gen import files

    with files.replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)


def write_gif(frames: Tensor, path: Path) -> None:
    """Frames (N, C, H, W) uint8 as an endless animation there and back, enlarged to be looked at."""
    from PIL import Image

    from lightning_gen import files

    shown = [Image.fromarray(frame) for frame in _there_and_back(frames)]
    with files.replacing(path) as unfinished:
        shown[0].save(unfinished, format="gif", save_all=True, append_images=shown[1:], duration=80, loop=0)


def film_encoder() -> Any:
    """The package that writes films.

    Raises:
        UserError: it is not installed.
    """
    from lightning_gen.errors import UserError

    try:
        import imageio_ffmpeg
    except ImportError:
        raise UserError("--mp4 needs an encoder: pip install 'lightning-gen[video]' (--gif needs none)") from None
    return imageio_ffmpeg


def write_mp4(frames: Tensor, path: Path) -> None:
    """Frames as `write_gif` shows them, once there and back, as H.264."""
    from lightning_gen import files

    shown = _there_and_back(frames.expand(-1, 3, -1, -1))
    height, width, _ = shown[0].shape
    with files.replacing(path) as unfinished:
        film = film_encoder().write_frames(str(unfinished), (width, height), fps=12.5, macro_block_size=2)
        film.send(None)
        for frame in shown:
            film.send(frame)
        film.close()


def _there_and_back(frames: Tensor) -> list[Any]:
    """Pictures (H, W, 3) or (H, W), enlarged."""
    from lightning_gen import images

    large = [images.enlarge(frame, 128).permute(1, 2, 0).squeeze(2).contiguous().cpu().numpy() for frame in frames]
    return [*large, *large[-2:0:-1]]
