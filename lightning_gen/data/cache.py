"""Prepared images, decoded once into a memory-mapped file of bytes and found again by content.

In the folder `images` of the cache, a prepared set is `KEY.npy` (N, C, H, W) uint8, sorted by label, and `KEY.json`,
which is written last: without it there is no set. KEY names the content of the source files and the whole
preparation. `PLACE.place.json` remembers which key the files at one place had when their names, sizes and times were
as they are now, so that a later start hashes nothing.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightning_gen.data import pictures
from lightning_gen.data.archive import Files, Load
from lightning_gen.errors import UserError
from lightning_gen.files import write

TASK = 64
"""Images that one thread decodes at a time, at most: small ones cost less than handing them over."""

HANDED = 2e-2
"""Seconds of decoding that are handed to a thread at a time: of large images, few are read ahead into memory."""

QUICK = 2e-4
"""Seconds for an image below which a second thread only waits for the interpreter: 28 pixels a side take half of it,
64 twice as much."""


def cache_folder() -> Path:
    """`LGEN_CACHE`, or ~/.cache/lightning_gen."""
    return Path(os.environ.get("LGEN_CACHE") or Path.home() / ".cache" / "lightning_gen").expanduser()


def key_of(*parts: object) -> str:
    """A short hex digest of plain values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def digest_of(shape: Sequence[int], labels: np.ndarray, pixels: Iterable[bytes | memoryview]) -> str:
    """A hex digest of images (N, C, H, W) uint8, given in chunks, and their labels (N,), in their order."""
    digest = hashlib.sha256(json.dumps(list(shape)).encode() + labels.astype("<i8").tobytes())
    for chunk in pixels:
        digest.update(chunk)
    return digest.hexdigest()


@dataclass
class Prepared:
    """A prepared set of images. It travels to other processes as the name of its file, not as its content."""

    file: Path
    shape: tuple[int, int, int, int]
    """(images, channels, height, width)."""
    digest: str
    """Of pixels, labels and their order."""
    counts: list[int]
    """Images of each class; one number where there are no classes."""
    about: dict[str, Any]
    """Plain values that the preparer left: names of classes, notes."""
    _images: np.ndarray | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": None}

    @property
    def images(self) -> np.ndarray:
        """(N, C, H, W) uint8, read-only, memory-mapped."""
        if self._images is None:
            # as a plain array: indexing np.memmap itself runs Python code at every batch
            self._images = np.asarray(np.load(self.file, mmap_mode="r"))
        return self._images


class Rows:
    """Where `fill` writes rows. A plain file: a memory map would crash, not complain, on a full disk."""

    def __init__(self, file: BinaryIO, shape: tuple[int, int, int, int]):
        self.shape = shape
        self._file = file
        self._row = int(np.prod(shape[1:]))
        self._start = len(_header(shape))

    def __setitem__(self, row: int, pixels: np.ndarray) -> None:
        self._file.seek(self._start + row * self._row)
        self._file.write(pixels.tobytes())


Fill = Callable[[Rows], tuple[np.ndarray, dict[str, Any]]]
"""Writes the rows of a new set; returns which are good, bool (N,), and what to keep as `about`."""


class Shelf:
    """The prepared sets in one folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as reason:
            raise UserError(f"the cache folder {folder} cannot be made (LGEN_CACHE): {reason.strerror}") from reason

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One process at a time, so that what all of them need is prepared once."""
        with saying_where(self._folder), FileLock(self._folder / f"{name}.lock"):
            yield

    def find(self, key: str | None) -> Prepared | None:
        """The set of this key, if it is there, whole."""
        try:
            about = json.loads((self._folder / f"{key}.json").read_text())
            found = Prepared(self._folder / f"{key}.npy", tuple(about["shape"]), **about["set"])
            complete = found.file.stat().st_size == len(_header(found.shape)) + int(np.prod(found.shape))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if complete else None

    def remembered(self, place: str, signature: str) -> Prepared | None:
        """The set that `place` had when its files had this signature, with the notes of then."""
        try:
            entry = json.loads((self._folder / f"{place}.place.json").read_text())
            return self._noted(entry["key"], entry["notes"]) if entry["signature"] == signature else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, place: str, signature: str, key: str, notes: list[str]) -> Prepared:
        """Note that the files at `place`, being as `signature` says, have the set of this key, and what else there is
        to say of them: files of one content may lie among others. Gives the set."""
        with saying_where(self._folder):
            entry = {"signature": signature, "key": key, "notes": notes}
            write(self._folder / f"{place}.place.json", json.dumps(entry))
        found = self._noted(key, notes)
        assert found is not None
        return found

    def _noted(self, key: str, notes: list[str]) -> Prepared | None:
        found = self.find(key)
        if found is not None:
            found.about["notes"] = [*notes, *found.about["notes"]]
        return found

    def keep(
        self, key: str, shape: tuple[int, int, int, int], labels: np.ndarray, classes: int, fill: Fill
    ) -> Prepared:
        """Make the set of this key, or take it if another process was first.

        `shape` (N, C, H, W) and `labels` (N,), sorted, 0 .. classes - 1, say what there will be at most; the rows that
        `fill` does not call good are left out. Nothing stays if it raises.
        """
        with self.locked(key):
            if found := self.find(key):
                return found
            # the lock is held, so what a killed process left under this name is nobody's
            unfinished = self._folder / f"{key}.unfinished"
            try:
                with open(unfinished, "w+b") as file:
                    good, about = fill(Rows(file, shape))
                    labels, shape = labels[good], (int(good.sum()), *shape[1:])
                    _close_gaps(file, shape, good)
                    digest = digest_of(shape, labels, _body(file, shape))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(unfinished, self._folder / f"{key}.npy")
            finally:
                unfinished.unlink(missing_ok=True)
            counts = np.bincount(labels, minlength=classes).tolist()
            known = {"shape": shape, "set": {"digest": digest, "counts": counts, "about": about}}
            write(self._folder / f"{key}.json", json.dumps(known))
        found = self.find(key)
        assert found is not None
        return found


Outcome = tuple[str, "np.ndarray | str", list[str]]
"""A path; its pixels, or why there are none; what was changed."""


Decode = Callable[[bytes, int, int], tuple[np.ndarray, list[str]]]
"""As `pictures.decode`: content, resolution and channels to pixels (channels, resolution, resolution) and changes."""


class Unreadable(UserError):  # noqa: N818 - says what the image is
    """One image cannot be read. Whoever offers to leave such images out says how."""


def decode_all(
    files: Files, paths: Sequence[str], rows: Rows, *, skip: bool, decode: Decode = pictures.decode
) -> tuple[np.ndarray, dict[str, int], dict[str, str]]:
    """Decode the images `paths` into `rows`, in threads (Pillow lets go of the interpreter while it decodes).

    Returns which rows are good (N,) bool, how many images each of `pictures.CHANGES` befell, and, with `skip`, the
    reason for each image that could not be read.

    Raises:
        Unreadable: an image cannot be read, and `skip` is not set.
        UserError: the archive is damaged.
    """
    _, channels, resolution, _ = rows.shape
    row_of = {path: row for row, path in enumerate(paths)}
    good = np.zeros(len(paths), bool)
    changes = dict.fromkeys(pictures.CHANGES, 0)
    failures: dict[str, str] = {}

    def finish(outcomes: list[Outcome]) -> None:
        for path, pixels, made in outcomes:
            if isinstance(pixels, str):
                if not skip:
                    raise Unreadable(f"--data.root {files.root}: the image {path} cannot be read ({pixels})")
                failures[path] = pixels
                continue
            rows[row_of[path]] = pixels
            good[row_of[path]] = True
            for change in made:
                changes[change] += 1
        advance(len(outcomes))

    with pictures.quiet(), _progress(f"preparing {files.root}", len(paths)) as advance:
        loads = files.read(paths)
        first = list(itertools.islice(loads, TASK // 8))
        began = time.perf_counter()
        finish(_decode_some(first, resolution, channels, decode))
        each = (time.perf_counter() - began) / max(1, len(first))
        threads = 1 if each < QUICK else os.cpu_count() or 1
        pool = ThreadPoolExecutor(threads)
        waiting: list[Future[list[Outcome]]] = []
        try:
            for task in _in_tasks(loads, min(TASK, max(1, int(HANDED / each)))):
                waiting.append(pool.submit(_decode_some, task, resolution, channels, decode))
                if len(waiting) > 2 * threads:  # what was read ahead is held in memory
                    finish(waiting.pop(0).result())
            for future in waiting:
                finish(future.result())
        finally:
            pool.shutdown(cancel_futures=True)
    return good, changes, failures


def _in_tasks(loads: Iterator[tuple[str, Load]], size: int) -> Iterator[list[tuple[str, Load]]]:
    while task := list(itertools.islice(loads, size)):
        yield task


def _decode_some(task: list[tuple[str, Load]], resolution: int, channels: int, decode: Decode) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for path, load in task:
        try:
            pixels, changes = decode(load(), resolution, channels)
            outcomes.append((path, pixels, changes))
        except Exception as reason:  # decoders raise whatever they like on damaged bytes
            outcomes.append((path, pictures.why(reason), []))
    return outcomes


def _header(shape: Sequence[int]) -> bytes:
    """The .npy header of a uint8 array; NumPy pads it, so that the number of rows does not change its length."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)})
    return head.getvalue()


def _close_gaps(file: BinaryIO, shape: Sequence[int], good: np.ndarray) -> None:
    """Move the good rows together, cut the rest off, and write the header."""
    head, row = _header(shape), int(np.prod(shape[1:]))
    for to, source in enumerate(np.flatnonzero(good)):
        if to != source:
            file.seek(len(head) + int(source) * row)
            pixels = file.read(row)
            file.seek(len(head) + to * row)
            file.write(pixels)
    file.truncate(len(head) + shape[0] * row)
    file.seek(0)
    file.write(head)


def _body(file: BinaryIO, shape: Sequence[int]) -> Iterator[bytes]:
    file.seek(len(_header(shape)))
    while chunk := file.read(2**20):
        yield chunk


@contextmanager
def saying_where(folder: Path, *also: type[Exception]) -> Iterator[None]:
    """A full disk or a folder without rights is the user's to mend; `also` are what a writer calls them."""
    failures: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except failures as reason:
        said = getattr(reason, "strerror", None) or reason
        raise UserError(f"the cache folder {folder} cannot be written (LGEN_CACHE): {said}") from reason


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, one line elsewhere; on stderr. Gives the function that counts."""
    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"{title}: {total} image{'s' if total > 1 else ''}, once", file=console.file, flush=True)
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.advance(task, n)
