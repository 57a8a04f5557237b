"""What verbs write: pictures and arrays, whole or not at all, and a line that says where they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import Tensor


def counted(n: int, kind: str = "image") -> str:
    """`1 image`, `8 volumes`."""
    return f"{n} {kind.removesuffix('s') if n == 1 else plural(kind)}"


def plural(kind: str) -> str:
    """`images`, `volumes`, `points`."""
    return kind if kind.endswith("s") else f"{kind}s"


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


def write_folder(pixels: Tensor, folder: str, kind: str, first: int = 0) -> None:
    """Each image of `pixels`, as `images.as_stored` gives them, in a file named by its index, from `first` on.

    Says how many other files are there, of an earlier, larger command perhaps: `lgen evaluate` would count them.
    """
    from lightning_gen import images

    for i, image in enumerate(pixels, start=first):
        attempt(image, str(Path(folder) / f"{i:06d}"), lambda image, path: images.save(image, path, kind))
    others = sum(1 for _ in Path(folder).iterdir()) - len(pixels)
    click.echo(f"{counted(len(pixels), kind)} in {folder}" + (f" (other files there: {others})" if others else ""))


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
