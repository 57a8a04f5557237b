"""Files, whole or not at all."""

from __future__ import annotations

import os
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
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        with suppress(OSError):
            unfinished.unlink()
