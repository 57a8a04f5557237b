"""Solids as a data source: procedural ones, or .npy files in a folder for each class."""

from __future__ import annotations

import hashlib
import io
import posixpath
from collections import Counter
from typing import Literal, get_args

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from lgen_voxel import solids
from lightning_gen.data import archive
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError, nearest

Split = Literal["train", "test"]
HELD_OUT = 5
"""Where files have no test part, one of so many objects is held out, by its content."""


class Voxels(Source):
    """Solids on a grid of voxels: procedural ones, or those of a folder or an archive.

    Files are .npy arrays (X, Y, Z), z upwards, 1 or True where it is solid, in a folder for each class, these perhaps
    in folders named train and test. Equal objects count once. Without a test part, a fifth of the objects is held out.

    Args:
        root: Folder or archive of .npy files; without it, procedural solids.
        resolution: Side of the procedural solids, in voxels; files say theirs.
        split: train or test.
        only: A class, where not all are wanted.
        size: Number of procedural solids.

    Raises:
        UserError: no .npy files, arrays that are no cubes of one size, or a class that is not there.
    """

    kind = "volume"
    notes: list[str]
    """What a user should know about how the set was read, as sentences."""

    def __init__(
        self,
        root: str = "",
        resolution: PositiveInt = 32,
        split: str = "train",
        only: str = "",
        size: PositiveInt = 4000,
    ):
        if split not in get_args(Split):
            raise UserError(f"--data.split {split}: {' or '.join(get_args(Split))}{nearest(split, get_args(Split))}")
        self.split = split
        self.notes = []
        if root:
            volumes, labels, names, notes = _read(root, split)
            self.notes, self._digest, self.title = notes, _digest(volumes, labels), f"solids of {_stem(root)}"
        else:
            volumes, labels, names = _drawn(size, split, resolution)  # type: ignore[arg-type]
            self._digest = hashlib.sha256(f"{solids.VERSION} {size} {split} {resolution}".encode()).hexdigest()
            self.title = "procedural solids"
        if only:
            if only not in names:
                raise UserError(f"--data.only {only}: the classes are {', '.join(names)}{nearest(only, names)}")
            rows = labels == names.index(only)
            volumes, labels, names = volumes[rows], labels[rows] * 0, [only]
            self._digest = hashlib.sha256(f"{self._digest} {only}".encode()).hexdigest()
            self.title += f", {only}"
        self._volumes, self._labels, self.class_names = volumes, labels, names
        side = resolution if not root else _side(volumes)
        self.image_shape = (side, side, side)

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, indices: np.ndarray) -> Batch:
        """`image` (B, X, Y, Z), 255 where it is solid and 0 elsewhere, and `label`."""
        bits = np.unpackbits(self._volumes[indices], axis=-1, count=int(np.prod(self.image_shape)))
        return {
            "image": torch.from_numpy(bits * np.uint8(255)).view(-1, *self.image_shape),
            "label": torch.from_numpy(self._labels[indices]),
        }

    def digest(self) -> str:
        """Of the objects and their classes; of procedural ones, what they are a function of."""
        return self._digest

    def class_counts(self) -> Tensor:
        """Objects of each class."""
        return torch.bincount(torch.from_numpy(self._labels), minlength=self.num_classes)


def _drawn(size: int, split: solids.Split, side: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    packed = np.stack([np.packbits(solids.solid(row, split, side)) for row in range(size)])
    return packed, np.arange(size) % len(solids.KINDS), list(solids.KINDS)


def _read(root: str, split: str) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Packed objects of a split, their labels, the names of the classes, and what is to be said."""
    source = archive.open_root(root)
    paths = [path for path in source.paths() if path.endswith(".npy")]
    if not paths:
        raise UserError(f"--data.root {root}: there are no .npy files in it")
    parts = Counter(part for path in paths for part in path.split("/")[:-2] if part in get_args(Split))
    names = sorted({posixpath.basename(posixpath.dirname(path)) for path in paths})
    objects: dict[bytes, tuple[np.ndarray, int]] = {}
    shape = None
    taken = 0
    for path, load in source.read(paths):
        if "test" in parts and split not in path.split("/")[:-2]:
            continue
        volume = array(load(), f"--data.root {root}: {path}")
        if shape is not None and volume.shape != shape:
            raise UserError(f"--data.root {root}: {path} is {volume.shape}, others are {shape}")
        shape, taken = volume.shape, taken + 1
        packed = np.packbits(volume)
        name = hashlib.sha256(packed.tobytes()).digest()
        if "test" in parts or (name[0] % HELD_OUT == 0) == (split == "test"):
            objects.setdefault(name, (packed, names.index(posixpath.basename(posixpath.dirname(path)))))
    if not objects:
        raise UserError(f"--data.root {root}: there is nothing of the split {split} in it")
    notes = [] if "test" in parts else [f"no test part: one object of {HELD_OUT} is held out, by its content"]
    rows = sorted(objects.values(), key=lambda row: (row[1], row[0].tobytes()))
    return np.stack([row[0] for row in rows]), np.array([row[1] for row in rows]), names, notes


def array(content: bytes, name: str) -> np.ndarray:
    """The solid of an .npy file, (X, Y, Z) bool.

    Raises:
        UserError: it is none; the message begins with `name`.
    """
    try:
        volume = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as reason:  # damaged headers raise several types
        raise UserError(f"{name} is no array that can be read") from reason
    if volume.ndim != 3 or len(set(volume.shape)) != 1 or not np.isin(volume, (0, 1)).all():
        raise UserError(f"{name} is no cube of zeros and ones, but {volume.dtype} {volume.shape}")
    return volume.astype(bool)


def _side(packed: np.ndarray) -> int:
    return round((packed.shape[1] * 8) ** (1 / 3))


def _digest(packed: np.ndarray, labels: np.ndarray) -> str:
    return hashlib.sha256(packed.tobytes() + labels.tobytes()).hexdigest()


def _stem(root: str) -> str:
    return posixpath.basename(root.rstrip("/")).split(".")[0]
