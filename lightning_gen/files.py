"""Files, whole or not at all."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write(path: Path, content: str | bytes) -> None:
    """Write `content` beside `path` and put it in its place: a crash, also of the machine, leaves the file as it was.

    Raises:
        OSError: the folder cannot be written.
    """
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, of the same ending. When the block ends the file takes the place of `path`;
    after an error it is gone, and `path` is as it was. The folder is made where there is none.

    Raises:
        OSError: `path` is a folder, or the one that it lies in cannot be written; `path` is named, which users know.
    """
    if path.is_dir():  # `.` is one too, what a variable that was not set leaves of a name
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # short, whatever the file is called: names end at 255 bytes
    unfinished = path.with_name(f".{os.getpid()}-{zlib.crc32(os.fsencode(path.name)):08x}{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as reason:
        if reason.filename == str(unfinished):
            reason.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            unfinished.unlink()


def make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it, and give the ones that were not there, the deepest first.

    Raises:
        OSError: it cannot be made. Nothing is left of it then.
    """
    made: list[Path] = []
    try:
        for folder in (*reversed(path.parents), path):
            if not folder.is_dir():
                with suppress(FileExistsError):  # another process was faster
                    folder.mkdir()
                    made.insert(0, folder)
                if not folder.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    except OSError:
        remove_empty(made)
        raise
    return made


def remove_empty(folders: list[Path]) -> None:
    """Remove folders as `make_folder` gives them, up to the first that somebody else has put something into."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
