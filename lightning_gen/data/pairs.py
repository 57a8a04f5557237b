"""Pictures that belong together, as their files say: pairs of equal names or side by side, and two sets without pairs.

Without files `shapes` stands in: pairs are the same shape as an outline and filled, sets are hatched and filled shapes.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lightning_gen import noise
from lightning_gen.data import archive, cache, folder, pictures
from lightning_gen.data.shapes import Factors, Shapes, Style, render
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError, nearest, said_as

Direction = Literal["ab", "ba"]

_PARTNER = 0x9A12  # names the stream that draws partners of unpaired pictures


class Drawn(Source):
    """`shapes` in one of its styles.

    Args:
        resolution: Side of the images, a power of two from 8 to 256.
        channels: 3 for colour, 1 for grey.
        split: train or test.
        style: filled, outline or hatched.
    """

    def __init__(self, resolution: int = 32, channels: int = 3, split: str = "train", style: Style = "filled"):
        self._shapes = Shapes(resolution, channels, split=split)  # type: ignore[arg-type]  # it checks the name
        self.style: Style = style
        self.image_shape = self._shapes.image_shape
        self.class_names = []
        self.split = split
        self.title = f"{self._shapes.title}, {style}"
        self.decodable = self._shapes.decodable and style == "filled"

    def __len__(self) -> int:
        return len(self._shapes)

    def read(self, indices: np.ndarray) -> Batch:
        """Only `image`."""
        if self.style == "filled":
            return {"image": self._shapes.read(indices)["image"]}
        channels, resolution, _ = self.image_shape
        return {"image": render(self._shapes.factors(indices), resolution, channels, self.style)}

    def truth(self, indices: np.ndarray) -> Factors:
        """What is drawn, in whatever style."""
        return self._shapes.factors(indices)

    def digest(self) -> str:
        """Of the set and the style."""
        return _digest(self._shapes.digest(), self.style)


class Paired(Source):
    """Pairs of pictures of one scene: two folders with equal names, or one folder of pictures side by side.

    Without `root`: `shapes`, outline and filled.

    Args:
        root: Folder or archive of the pictures A; without `root_b`, of pictures that show A left and B right.
        root_b: Folder or archive of the pictures B; each lies where its A does and is called as it, but for the suffix.
        direction: ab makes B from A; ba makes A from B.
        resolution: Width and height to which pictures are brought.
        source_channels: 3 for colour, 1 for grey, of the pictures that are started from.
        channels: The same of the pictures that are made.
        split: Which part to read where there are folders named train, val or test.
        flip: Mirror half of the pairs, each time anew, when training.

    Raises:
        UserError: names without counterpart or that two pictures have, a picture of odd width where two are side by
            side, `root_b` alone, and as `folder`.
    """

    views = ("source", "target")
    paired = True
    notes: list[str]
    """What a user should know about how the set was read, as sentences."""

    def __init__(
        self,
        root: str = "",
        root_b: str = "",
        direction: Direction = "ab",
        resolution: int = 32,
        source_channels: int = 3,
        channels: int = 3,
        split: str = "train",
        flip: bool = False,
    ):
        choice("direction", direction, get_args(Direction))
        _refuse_b_alone(root, root_b)
        folder.refuse_channels(source_channels, "source_channels")
        folder.refuse_channels(channels)
        self._swap = direction == "ba"
        self._flip = flip
        of_a, of_b = (channels, source_channels) if self._swap else (source_channels, channels)
        self._halves: cache.Prepared | None = None
        self._partners: np.ndarray | None = None
        if not root:
            self._a: Source = Drawn(resolution, of_a, split, "outline")
            self._b: Source = Drawn(resolution, of_b, split, "filled")
            self.title, self.split = "shapes, outline and filled", split
        elif root_b:
            self._partners = _partners(root, root_b, split)
            self._a = folder.Folder(root, resolution, of_a, split)
            with said_as(_of_b(root_b)):
                self._b = folder.Folder(root_b, resolution, of_b, split)
            self.title, self.split = f"{archive.title(root)} and {archive.title(root_b)}", self._a.split
        else:
            if channels != source_channels:
                raise UserError("--data.source_channels: pictures side by side in one file have the same channels")
            folder.refuse_small(resolution)
            self._halves = folder.prepare(root, resolution, 2 * channels, split, "stop", pictures.side_by_side)
            self.title, self.split = f"{archive.title(root)}, side by side", self._halves.about["split"]
        if self._halves is not None:
            self.notes = list(self._halves.about["notes"])
        else:
            self.notes = [note for part in self._parts() for note in getattr(part, "notes", [])]
        self.image_shape = (channels, resolution, resolution)
        self._source_channels = source_channels
        self.class_names = []

    def _parts(self) -> list[Source]:
        return [] if self._halves is not None else [self._a, self._b]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """With the channels of the picture that is started from."""
        return (self._source_channels, *self.image_shape[1:])

    @property
    def decodable(self) -> bool:
        """Whether the pictures that are made are filled shapes."""
        return self._halves is None and getattr(self._a if self._swap else self._b, "decodable", False)

    def __len__(self) -> int:
        return len(self._a) if self._halves is None else self._halves.shape[0]

    def read(self, indices: np.ndarray) -> Batch:
        """`source` and `target`, (B, C, R, R) uint8 each."""
        if self._halves is None:
            a = self._a.read(indices)["image"]
            b = self._b.read(indices if self._partners is None else self._partners[indices])["image"]
        else:
            a, b = torch.from_numpy(self._halves.images[indices]).chunk(2, dim=1)
        source, target = (b, a) if self._swap else (a, b)
        return {"source": source, "target": target, "image": target}

    def truth(self, indices: np.ndarray) -> Mapping[str, np.ndarray] | None:
        """Of outlines that are to be filled."""
        return self._a.truth(indices) if self.decodable else None

    def digest(self) -> str:
        """Of both sides, which is which, and who is whose partner where the rows do not say it."""
        content = [self._halves.digest] if self._halves is not None else [part.digest() for part in self._parts()]
        order = [] if self._partners is None else map(str, self._partners)
        return _digest(*content, "ba" if self._swap else "ab", *order)

    def augment(self, batch: Batch, chance: np.ndarray) -> Batch:
        """With `flip`, pairs are mirrored together."""
        return mirrored_views(batch, self.views, chance, self._flip)


class Unpaired(Source):
    """Two sets of pictures, A and B, of which no two belong together.

    Without `root`: `shapes`, hatched as A and other shapes, filled, as B.

    Args:
        root: Folder or archive of the pictures A; without `root_b`, one that holds folders trainA and trainB or
            train/A and train/B (testA and so on with the split test), or A and B alone, which have no splits.
        root_b: Folder or archive of the pictures B.
        resolution: Width and height to which pictures are brought.
        channels: 3 for colour, 1 for grey, of both.
        split: Which part to read.
        flip: Mirror half of the pictures, each time anew, when training.

    Raises:
        UserError: no such folders or several of them, `root_b` alone, and as `folder`.
    """

    views = ("a", "b")
    notes: list[str]
    """What a user should know about how the sets were read, as sentences."""

    def __init__(
        self,
        root: str = "",
        root_b: str = "",
        resolution: int = 32,
        channels: int = 3,
        split: str = "train",
        flip: bool = False,
    ):
        _refuse_b_alone(root, root_b)
        self._flip = flip
        self._a: Source
        self._b: Source
        if not root:
            self._a = Drawn(resolution, channels, split, "hatched")
            self._b = Drawn(resolution, channels, split, "filled")
            self.title, self.split = "shapes, hatched and filled, unpaired", split
        elif root_b:
            self._a = folder.Folder(root, resolution, channels, split)
            with said_as(_of_b(root_b)):
                self._b = folder.Folder(root_b, resolution, channels, split)
            self.title, self.split = f"{archive.title(root)} and {archive.title(root_b)}", self._a.split
        else:
            *sides, self.split = _two_folders(root, split)
            self._a, self._b = (folder.Folder(side, resolution, channels) for side in sides)
            self.title = archive.title(root)
        self.notes = [note for part in (self._a, self._b) for note in getattr(part, "notes", [])]
        self.image_shape = self._a.image_shape
        self.class_names = []

    @property
    def decodable(self) -> bool:
        """Whether B are filled shapes."""
        return getattr(self._b, "decodable", False)

    def __len__(self) -> int:
        """Of the larger set; the smaller one begins again."""
        return max(len(self._a), len(self._b))

    def read(self, indices: np.ndarray) -> Batch:
        """`a` and `b`, (B, C, R, R) uint8 each; row i of B lies half a set away from row i of A, for shapes would
        otherwise be pairs."""
        a = self._a.read(indices % len(self._a))["image"]
        b = self._b.read((indices + len(self._b) // 2) % len(self._b))["image"]
        return {"a": a, "b": b, "image": b}

    def truth(self, indices: np.ndarray) -> Mapping[str, np.ndarray] | None:
        """Of hatched shapes that are to be filled: what A shows, for no B belongs to it."""
        return self._a.truth(indices % len(self._a)) if self.decodable else None

    def digest(self) -> str:
        """Of both sets, and which is which."""
        return _digest(self._a.digest(), self._b.digest())

    def augment(self, batch: Batch, chance: np.ndarray) -> Batch:
        """Each A meets another B every time; with `flip`, each is mirrored for itself."""
        rows = (_again(chance, _PARTNER) * len(self._b)).astype(np.int64)
        drawn = {"a": batch["a"], "b": self._b.read(rows)["image"]}
        if self._flip:
            drawn["a"] = folder.mirrored(drawn["a"], chance)
            drawn["b"] = folder.mirrored(drawn["b"], _again(chance, _PARTNER + 1))
        return drawn


def choice(setting: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that a setting of the data does not have."""
    if value not in known:
        raise UserError(f"--data.{setting} {value}: {' or '.join(known)}{nearest(value, known)}")


def mirrored_views(batch: Batch, views: tuple[str, ...], chance: np.ndarray, flip: bool) -> Batch:
    """The views alone, as training needs them; with `flip` those rows are mirrored, in all views alike, whose chance
    is under a half."""
    return {view: folder.mirrored(batch[view], chance) if flip else batch[view] for view in views}


def keys_of(chance: np.ndarray) -> np.ndarray:
    """The numbers in [0, 1) that a batch is augmented by as whole numbers (B,) int64, to draw further ones from."""
    return (chance * float(1 << 53)).astype(np.int64)


def _again(chance: np.ndarray, seed: int) -> np.ndarray:
    """Other uniform numbers, independent of `chance`, that are a function of it."""
    return noise.chance(keys_of(chance), seed)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _refuse_b_alone(root: str, root_b: str) -> None:
    """It would be left out without a word, and `shapes` drawn instead."""
    if root_b and not root:
        raise UserError(f"--data.root_b {root_b} needs --data.root, the pictures A")


def _of_b(root_b: str) -> dict[str, str]:
    """What is said of a folder is said of the setting that names it."""
    return {f"--data.root {root_b}": f"--data.root_b {root_b}"}


def _partners(root: str, root_b: str, split: str) -> np.ndarray | None:
    """Which row of B each row of A belongs to, by their names alone; None where both have one order."""
    a, b = _by_name("root", root, split), _by_name("root_b", root_b, split)
    for ours, theirs, lacking in ((a, b, f"root_b {root_b}"), (b, a, f"root {root}")):
        if lonely := sorted(ours.keys() - theirs.keys()):
            more = f" and of {len(lonely) - 1} more" if len(lonely) > 1 else ""
            raise UserError(f"--data.{lacking} holds no counterpart of {ours[lonely[0]]}{more}: pairs have equal names")
    rows = {name: row for row, name in enumerate(b)}
    return None if list(a) == list(b) else np.array([rows[name] for name in a])


def _by_name(setting: str, root: str, split: str) -> dict[str, str]:
    """Name to path, in the order of the rows. A name is the path below the folder around all of them, which two sets
    may call differently, without the suffix."""
    with said_as(_of_b(root) if setting == "root_b" else {}):
        files = archive.open_root(root)
        paths = folder.arrange(files.paths(), root, split, is_archive=files.is_archive).paths
    around = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    named: dict[str, str] = {}
    for path in paths:
        name, _ = posixpath.splitext(path.removeprefix(f"{around}/"))
        if (other := named.setdefault(name, path)) != path:
            raise UserError(f"--data.{setting} {root}: {other} and {path} are both called {name}, as pairs are")
    return named


def _two_folders(root: str, split: str) -> tuple[str, str, str]:
    """The folders of A and of B at any depth below `root`, and their split: what their names begin with, or a folder
    around them is called; all where neither is a split."""
    folders = {posixpath.dirname(path) for path in archive.open_root(root).paths() if pictures.is_image(path)}
    wanted = split.lower()
    splits = (wanted, *folder.SPLITS)
    found: dict[str, list[tuple[str, str]]] = {}
    for a, b in ("AB", "ab"):
        for stem in sorted(path.removesuffix(a) for path in folders if path.endswith(a)):
            *above, start = stem.lower().split("/")
            if stem + b in folders and start in ("", *splits):
                part = next((name for name in (start, *reversed(above)) if name in splits), "all")
                found.setdefault(part, []).append((stem + a, stem + b))
    instead = "name the two folders with --data.root and --data.root_b"
    order = (wanted, *(folder.SAME if wanted in folder.SAME else ()), "all")
    part = next((name for name in order if name in found), "")
    if not part:
        others = f", only those of {' and '.join(sorted(found))}" if found else ""
        raise UserError(f"--data.root {root}: neither {split}A and {split}B nor A and B in it{others}; {instead}")
    if part == "all" and wanted not in ("train", "all"):
        raise UserError(f"--data.split {split}: {root} has no splits, that is folders {split}A and {split}B")
    (a, b), *more = found[part]
    if more:
        raise UserError(f"--data.root {root}: which of {' and '.join(a for a, _ in found[part])}? {instead}")
    return f"{root}/{a}", f"{root}/{b}", part


def as_bytes(levels: Tensor) -> Tensor:
    """Levels (B, C, H, W) of any float type to the nearest bytes."""
    return levels.round().clamp(0, 255).to(torch.uint8)
