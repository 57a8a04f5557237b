"""Your own pictures: a folder or an archive of images, in one of the usual layouts.

    flat        root/*.png
    classes     root/CLASS/*.png                      the sorted names of the folders are the labels
    splits      root/{train,val,test}/ of either      `split` says which one is read

One lone folder around any of these is passed through, and said. What is not an image, and hidden files, are ignored.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_gen.data import archive, cache, pictures
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError

SPLITS = ("train", "val", "valid", "validation", "test")
"""A folder of one of these names, in any case, is a split, not a class."""

SAME = ("val", "valid", "validation")
"""Names of one split: whichever is asked for, the one that is there is meant."""

LAYOUT = 3
"""Version of the rules of `arrange`; part of the cache key."""


class Folder(Source):
    """Images of a folder or an archive (.zip, .tar, .tar.xz, .tar.gz): flat, folder per class, or with splits.

    Every image is turned upright (EXIF), put on white where it is transparent, scaled from 16 bits to 8, cropped to
    its centre square and resized once (Lanczos, antialiased). That is done once and kept under LGEN_CACHE, found again
    by content.

    Args:
        root: The folder or archive.
        resolution: Width and height to which images are brought, in pixels; 4 or more.
        channels: 3 for colour, 1 for grey.
        split: Which part to read where there are folders named train, val or test; else everything is read.
        flip: Mirror half of the images, each time anew, when training.
        on_error: What to do about an image that cannot be read: stop, or skip it and say so.

    Raises:
        UserError: nothing there that can be read, a layout that is none of the above, or an unreadable image.
    """

    photographs = True
    notes: list[str]
    """What a user should know about how the set was read, as sentences."""

    def __init__(
        self,
        root: str = "",
        resolution: int = 32,
        channels: int = 3,
        split: str = "train",
        flip: bool = False,
        on_error: Literal["stop", "skip"] = "stop",
    ):
        if not root:
            raise UserError("the data source folder needs --data.root: a folder or an archive of images")
        refuse_small(resolution)
        refuse_channels(channels)
        if on_error not in ("stop", "skip"):
            raise UserError(f"--data.on_error {on_error}: stop or skip")
        self._flip = flip
        self._set = prepare(str(root), resolution, channels, split, on_error)
        self.image_shape = (channels, resolution, resolution)
        self.class_names = self._set.about["class_names"]
        self.split = self._set.about["split"]
        self.notes = list(self._set.about["notes"])
        self.title = f"{archive.title(root)} ({self._set.about['formats']})"
        self._labels = torch.repeat_interleave(torch.arange(len(self._set.counts)), torch.tensor(self._set.counts))

    def __len__(self) -> int:
        return self._set.shape[0]

    def read(self, indices: np.ndarray) -> Batch:
        """Rows by one index into the memory map; `label` where there are classes."""
        batch: Batch = {"image": torch.from_numpy(self._set.images[indices])}
        if self.class_names:
            batch["label"] = self._labels[torch.from_numpy(np.asarray(indices))]
        return batch

    def digest(self) -> str:
        """Of the prepared pixels, so a folder and an archive of the same images have the same one."""
        return self._set.digest

    def augment(self, batch: Batch, chance: np.ndarray) -> Batch:
        """With `flip`, the images whose chance is under a half are mirrored."""
        return {**batch, "image": mirrored(batch["image"], chance)} if self._flip else batch

    def class_counts(self) -> Tensor:
        """Known from the preparation."""
        return torch.tensor(self._set.counts if self.class_names else [], dtype=torch.int64)


def refuse_small(resolution: int) -> None:
    """Raises UserError: pictures are not brought to so few pixels."""
    if resolution < 4:
        raise UserError(f"--data.resolution {resolution} is too small: 4 or more")


def refuse_channels(channels: int, setting: str = "channels") -> None:
    """Raises UserError: pictures have no such number of channels."""
    if channels not in (1, 3):
        raise UserError(f"--data.{setting} {channels}: 3 (colour) or 1 (grey)")


def sizes_of(root: str, split: str = "train") -> Counter[tuple[int, int]]:
    """How many images of `root` have which (width, height) in pixels.

    Looks at the headers of the first 500 images, no further: a set of several sizes shows it soon.

    Raises:
        UserError: nothing there that can be read, or a layout that `Folder` refuses.
    """
    files = archive.open_root(root)
    paths = arrange(files.paths(), root, split, is_archive=files.is_archive).paths[:500]
    sizes = Counter(size for _, load in files.read(paths) if (size := pictures.size(load)))
    if not sizes:
        raise UserError(f"--data.root {root}: none of its images can be read")
    return sizes


def usual_side(root: str, split: str = "train") -> tuple[int, list[str]]:
    """The shorter side that most of the images of `root` have, in pixels, and what to say where they differ.

    Raises:
        UserError: as `sizes_of`.
    """
    sizes = sizes_of(root, split)
    side = Counter({min(size): n for size, n in sizes.items()}).most_common(1)[0][0]
    if len(sizes) == 1:
        return side, []
    return side, [f"images of different sizes ({named_sizes(sizes)}): all are brought to {side}x{side}"]


def named_sizes(sizes: Counter[tuple[int, int]]) -> str:
    """The most frequent three of them, width first."""
    return _some([f"{width}x{height}" for (width, height), _ in sizes.most_common()])


def mirrored(images: Tensor, chance: np.ndarray) -> Tensor:
    """Images (B, C, H, W) with those mirrored left to right whose chance, in [0, 1), is under a half."""
    chosen = torch.from_numpy(chance < 0.5).view(-1, 1, 1, 1)
    return torch.where(chosen, images.flip(-1), images)


def prepare(
    root: str, resolution: int, channels: int, split: str, on_error: str, decode: cache.Decode = pictures.decode
) -> cache.Prepared:
    """The images of `root` as one prepared set, from the cache where it has them.

    Raises:
        UserError: as `Folder`.
    """
    files = archive.open_root(root)
    how = [LAYOUT, pictures.RECIPE, resolution, channels, split, on_error]
    if decode is not pictures.decode:
        how.append(decode.__name__)
    shelf = cache.Shelf(cache.cache_folder() / "images")
    place = cache.key_of(os.path.realpath(Path(root).expanduser()), *how)
    if found := shelf.remembered(place, files.signature):
        return found
    with shelf.locked(place):  # of several processes that start together, one reads the files
        if found := shelf.remembered(place, files.signature):
            return found
        arranged = arrange(files.paths(), root, split, is_archive=files.is_archive)
        key = cache.key_of(files.digest(arranged.paths), arranged.class_names, *how)
        if shelf.find(key) is None:
            shape = (len(arranged.paths), channels, resolution, resolution)
            classes = max(1, len(arranged.class_names))
            fill = partial(_fill, files, arranged, on_error == "skip", decode)
            shelf.keep(key, shape, np.array(arranged.labels), classes, fill)
        return shelf.remember(place, files.signature, key, arranged.notes)


def _fill(
    files: archive.Files, arranged: Arranged, skip: bool, decode: cache.Decode, rows: cache.Rows
) -> tuple[np.ndarray, dict[str, Any]]:
    good, changes, failures = cache.decode_all(files, arranged.paths, rows, skip=skip, decode=decode)
    if not good.any():
        raise UserError(f"--data.root {files.root}: none of its {len(good)} images can be read")
    if archive.open_root(files.root).signature != files.signature:
        raise UserError(f"--data.root {files.root} changed while it was read: start again when it is complete")
    notes = [pictures.CHANGES[change].format(_count(n, "image")) for change, n in changes.items() if n]
    if failures:
        reasons = [f"{path} ({why})" for path, why in sorted(failures.items())]
        notes.append(f"{_count(len(failures), 'unreadable image')} skipped: {_some(reasons)}")
    formats = ", ".join(sorted({Path(path).suffix[1:].upper().replace("JPG", "JPEG") for path in arranged.paths}))
    about = {"class_names": arranged.class_names, "split": arranged.split, "notes": notes, "formats": formats}
    return good, about


@dataclass
class Arranged:
    """Which files are read, in which order, as what."""

    paths: list[str]
    labels: list[int]
    """Of each path, rising; all 0 where there are no classes."""
    class_names: list[str]
    split: str
    notes: list[str]


@dataclass
class Level:
    """A folder, as far as it holds images."""

    path: str = ""
    images: list[str] = field(default_factory=list)
    folders: dict[str, Level] = field(default_factory=dict)

    def count(self) -> int:
        """Images here and below."""
        return len(self.images) + sum(level.count() for level in self.folders.values())


def arrange(paths: Iterable[str], root: str, split: str, *, is_archive: bool = False) -> Arranged:
    """The layout rules: which of the files `paths` below `root` are the images of `split`, with which labels.

    Raises:
        UserError: no images, no such split, or a layout that could mean two things; the message names the folder.
    """
    notes: list[str] = []
    top = _tree(paths, root, notes)
    where = _Where(root, is_archive)
    top = _unwrapped(top, where, notes)
    splits = {name: level for name, level in top.folders.items() if name.lower() in SPLITS}
    if not splits:
        if split not in ("train", "all"):
            raise UserError(
                f"--data.split {split}: {where(top)} has no splits, that is folders named {', '.join(SPLITS)}"
            )
        labels = _classes(top, where, notes)
        return _as_rows(labels, list(labels), "all", notes)
    _refuse_class_named_as_split(splits, top, where)
    if len({name.lower() for name in splits}) < len(splits):
        raise UserError(f"--data.root {root}: {where(top)} has two folders for one split ({', '.join(sorted(splits))})")
    if name := _chosen(splits, split):
        beside = sorted(set(top.folders) - set(splits))
        if beside:
            notes.append(f"beside the splits, not used: {_some(beside)}")
        if top.images:
            notes.append(f"{_count(len(top.images), 'image')} beside the splits not used: {_some(top.images)}")
        level, known = splits[name], _classes_of_train(splits)
        if not known.issuperset(level.folders):  # a split may hold one class of several
            level = _unwrapped(level, where, notes)
        labels = _classes(level, where, notes)
        # so that a class that the test split lacks does not shift the labels of the others
        unknown = [name for name in labels if name not in known]
        if known and unknown and unknown != [""]:
            notes.append(f"classes that train does not have, numbered behind its own: {_some(unknown)}")
        numbering = [*sorted(known), *unknown]
        return _as_rows(labels, numbering, name.lower(), notes)
    raise UserError(f"--data.split {split}: {where(top)} has no such split (it has {', '.join(sorted(splits))})")


@dataclass
class _Where:
    """Names a folder below the root as the user would write it."""

    root: str
    is_archive: bool

    def __call__(self, level: Level) -> str:
        return self.of(level.path)

    def of(self, path: str) -> str:
        if not path:
            return self.root
        return f"{path} in {self.root}" if self.is_archive else os.path.join(self.root, path)

    def instead(self, path: str) -> str:
        if self.is_archive:
            return f"unpack it and give --data.root the folder {path}"
        return f"give --data.root {self.of(path)}"


def _tree(paths: Iterable[str], root: str, notes: list[str]) -> Level:
    top = Level()
    others: Counter[str] = Counter()
    for path in sorted(paths):
        if not pictures.is_image(path):
            others[os.path.splitext(path)[1].lower() or "no suffix"] += 1
            continue
        *folders, _ = path.split("/")
        level = top
        for name in folders:
            level = level.folders.setdefault(name, Level(f"{level.path}/{name}".lstrip("/")))
        level.images.append(path)
    kinds = _some([f"{n} {suffix}" for suffix, n in others.most_common()])
    if not top.images and not top.folders:
        read = ", ".join(suffix[1:] for suffix in pictures.SUFFIXES)
        holds = f"it holds {kinds}" if others else "it is empty"
        raise UserError(f"--data.root {root}: no images in it ({holds}; {read} are read)")
    if others:
        notes.append(f"{_count(others.total(), 'file')} ignored, not images: {kinds}")
    return top


def _unwrapped(level: Level, where: _Where, notes: list[str]) -> Level:
    """The one folder in `level`, if that is all it holds and no split; two such in a row are refused."""
    lone = _lone(level)
    if lone is None:
        return level
    deeper = lone
    while inner := _lone(deeper):
        deeper = inner
    if deeper is not lone:
        raise UserError(
            f"--data.root {where.root}: its images lie more than one lone folder deep, in {deeper.path}: "
            f"{where.instead(deeper.path)}"
        )
    around = level.path or ("the archive" if where.is_archive else "the root")
    notes.append(f"using the folder {os.path.basename(lone.path)!r} inside {around}")
    return lone


def _lone(level: Level) -> Level | None:
    if level.images or len(level.folders) != 1:
        return None
    ((name, inner),) = level.folders.items()
    return None if name.lower() in SPLITS else inner


def _classes(level: Level, where: _Where, notes: list[str]) -> dict[str, list[str]]:
    """Class to images, sorted; the one class "" where the images lie in `level` itself."""
    if level.images and level.folders:
        raise UserError(
            f"--data.root {where.root}: {where(level)} holds both images ({_some(level.images)}) and folders of images "
            f"({_some(sorted(level.folders))}): keep either, so that it is clear what is a class"
        )
    if level.images:
        return {"": level.images}
    for name, inner in sorted(level.folders.items()):
        if not inner.images:
            raise UserError(
                f"--data.root {where.root}: the class folder {where(inner)} holds no images itself, only folders "
                f"({_some(sorted(inner.folders))}): classes must be one folder deep"
            )
        if inner.folders:
            below = inner.count() - len(inner.images)
            notes.append(f"{_count(below, 'image')} in folders inside the class {name!r} not used")
    return {name: inner.images for name, inner in sorted(level.folders.items())}


def _chosen(splits: dict[str, Level], split: str) -> str | None:
    wanted = split.lower()
    order = [wanted, *(SAME if wanted in SAME else ())]
    known = {name.lower(): name for name in splits}
    return next((known[name] for name in order if name in known), None)


def _refuse_class_named_as_split(splits: dict[str, Level], top: Level, where: _Where) -> None:
    """`train` beside `bus` and `car`, all holding images: one guess would train on trains alone, unnoticed."""
    level, *more = splits.values()
    others = {other: inner for other, inner in top.folders.items() if other not in splits}
    if not more and level.images and len(others) > 1 and all(inner.images for inner in others.values()):
        raise UserError(
            f"--data.root {where.root}: {where(level)} may be a split or a class, beside {_some(sorted(others))}: "
            "rename it, or move the others away"
        )


def _classes_of_train(splits: dict[str, Level]) -> set[str]:
    """The names of the classes of the train split, if there is one and it has some."""
    train = _chosen(splits, "train")
    level = splits[train] if train else Level()
    names = set((_lone(level) or level).folders)
    return names if len(names) > 1 else set()


def _as_rows(labels: dict[str, list[str]], class_names: Sequence[str], split: str, notes: list[str]) -> Arranged:
    if list(labels) == [""]:
        images = labels[""]
        return Arranged(images, [0] * len(images), [], split, notes)
    number = {name: label for label, name in enumerate(class_names)}
    ordered = sorted(labels, key=number.__getitem__)
    paths = [path for name in ordered for path in labels[name]]
    rising = [number[name] for name in ordered for _ in labels[name]]
    return Arranged(paths, rising, list(class_names), split, notes)


def _some(names: Sequence[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
