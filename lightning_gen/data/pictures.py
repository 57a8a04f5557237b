"""One image file becomes one row of bytes: what is converted, cropped and resized, and how."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from warnings import catch_warnings, filterwarnings

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""File names, in any case, that are taken for images."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Decoders of Pillow that may run: the content must be one of these, whatever the name says."""

LARGEST_FILE = 512 * 2**20
"""A file of more bytes is refused before it is read: it is no picture, and an archive may claim any size."""

RECIPE = f"1: EXIF orientation, 16 bit / 257, white behind alpha, centre square, Lanczos; Pillow {PIL.__version__}"
"""Names everything here that changes pixels; part of every cache key. Count it up when `decode` changes."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings pixels upright for a value of EXIF's orientation."""

CHANGES = {
    "first": "{} with several frames: the first is used",
    "rotated": "{} turned upright as their EXIF orientation says",
    "16 bit": "{} of 16 bits scaled to 8",
    "alpha": "{} with transparency put on white",
    "coloured": "{} in grey given three equal channels",
    "greyed": "{} in colour turned to grey (ITU-R 601 luma)",
    "cmyk": "{} in CMYK turned to RGB",
    "cropped": "{} not square: the centre is used",
    "enlarged": "{} smaller than the resolution enlarged to it",
}
"""What `decode` may report having done, as sentences for the user; the hole takes "1 image", "7 images"."""


def is_image(path: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return path.lower().endswith(SUFFIXES)


def decode(data: bytes, resolution: int, channels: int) -> tuple[np.ndarray, list[str]]:
    """The picture in `data` as uint8 (channels, resolution, resolution), and which of CHANGES were made.

    In this order: the first frame; turned as EXIF says; 16-bit greys scaled to 8 bits (65535 becomes 255, rounded);
    transparency composited on white, as viewers show it; everything else by Pillow's `convert` to RGB, or to grey
    (ITU-R 601 luma) for one channel; the centre square; one antialiased Lanczos resize, none where the size fits.

    Raises:
        Exception: whatever Pillow raises on what it cannot read; ValueError on pixels without a known range.
    """
    image, changes = _whole(data, channels)
    image = _square(image, resolution, changes)
    return _array(image), changes


def side_by_side(data: bytes, resolution: int, channels: int) -> tuple[np.ndarray, list[str]]:
    """The two halves of the picture in `data`, left and right, one behind the other: each is brought to the resolution
    as `decode` does, and has half of `channels`.

    Raises:
        ValueError: an odd width, which has no halves; and whatever `decode` raises.
    """
    image, changes = _whole(data, channels // 2)
    width, height = image.size
    if width % 2:
        raise ValueError(f"{width} pixels wide: two pictures side by side have an even width")
    halves = [image.crop((left, 0, left + width // 2, height)) for left in (0, width // 2)]
    return np.concatenate([_array(_square(half, resolution, changes)) for half in halves]), list(dict.fromkeys(changes))


def is_grey(data: bytes) -> bool:
    """Whether the picture in `data` has no colour to speak of: its file holds one channel, transparency aside.

    Raises:
        Exception: whatever Pillow raises on what it cannot read.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def whole(data: bytes, channels: int = 3) -> np.ndarray:
    """As `decode`, at the picture's own size: uint8 (channels, H, W)."""
    return _array(_whole(data, channels)[0])


def _array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    # a copy always: the pixels of a grey picture are Pillow's own, which nobody may write and torch warns of
    return np.array(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), order="C")


def _whole(data: bytes, channels: int) -> tuple[Image.Image, list[str]]:
    changes: list[str] = []
    image: Image.Image
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if _orientation(image) in TURNS:
            changes.append("rotated")
        image.load()
        turn = TURNS.get(_orientation(image))  # a TIFF has turned itself while it was loaded, and says so
        if _has_more_frames(image, data):
            changes.append("first")
        image = _eight_bits(image, changes)
        image = _opaque(image, changes)
        image = _channels(image, channels, changes)
        # by hand: Pillow's `exif_transpose` also writes all metadata again, and fails where some of it is odd
        return image if turn is None else image.transpose(turn), changes


def size(load: Callable[[], bytes]) -> tuple[int, int] | None:
    """(width, height) that the header of an image file tells; None where it is no image that can be read."""
    try:
        with quiet(), Image.open(io.BytesIO(load()), formats=FORMATS) as image:
            return image.size
    except Exception:  # decoders raise whatever they like on damaged bytes
        return None


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow's hints about odd but readable files stay out of the user's terminal."""
    Image.init()  # all decoders, before threads ask for them
    with catch_warnings():
        filterwarnings("ignore", module=r"PIL\b")
        filterwarnings("ignore", category=Image.DecompressionBombWarning)  # a photograph may have 100 megapixels
        yield


def why(reason: Exception) -> str:
    """What a decoder raised, in one line; Pillow's own word for what is no image shows an object of ours."""
    if isinstance(reason, UnidentifiedImageError):
        return "not an image, or of a kind that is not read"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return " ".join(str(reason).split()) or type(reason).__name__


def _has_more_frames(image: Image.Image, data: bytes) -> bool:
    """Whether the file holds more than its first frame, which is not a reason to refuse it where they are damaged."""
    if image.format not in ("GIF", "TIFF"):
        # a phone's MPO holds a preview behind the picture, nothing that a user would call a frame
        return image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    with Image.open(io.BytesIO(data), formats=FORMATS) as again:  # for these, counting means moving on in the file
        try:
            return again.n_frames > 1  # type: ignore[attr-defined]
        except Exception:  # decoders raise whatever they like on damaged bytes
            return True


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged metadata of any kind says nothing against the pixels
        return 1


def _eight_bits(image: Image.Image, changes: list[str]) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):
        changes.append("16 bit")
        # Pillow's own conversion to "L" clips: everything above 255 would be white
        wide = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.rint(wide / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits have no agreed range: convert it to 8 or 16 bits")
    return image


def _opaque(image: Image.Image, changes: list[str]) -> Image.Image:
    if image.mode not in ("RGBA", "RGBa", "LA", "La", "PA") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    changes.append("alpha")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _channels(image: Image.Image, channels: int, changes: list[str]) -> Image.Image:
    grey = image.mode in ("1", "L")
    if image.mode == "CMYK":
        changes.append("cmyk")
    if channels == 3 and grey:
        changes.append("coloured")
    if channels == 1 and not grey:
        changes.append("greyed")
    mode = "RGB" if channels == 3 else "L"
    return image if image.mode == mode else image.convert(mode)


def _square(image: Image.Image, resolution: int, changes: list[str]) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    if width != height:
        changes.append("cropped")
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if side < resolution:
        changes.append("enlarged")
    if side != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return image
