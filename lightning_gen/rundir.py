"""The directory of a run: one process's alone while it writes there, as it was before where nothing came of the run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from lightning_gen import files
from lightning_gen.errors import UserError

LOCK = ".lock"
"""Locked by the process that writes. The kernel unlocks it however that one ends; the file itself says nothing."""


class RunDirectory:
    """A context: after a UserError that came before `keep`, the directory is left as `take` found it.

    Of several processes that train together only the first one takes and writes it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = FileLock(path / LOCK)
        self._made: list[Path] = []
        self._before: set[str] = set()
        self._settings: bytes | None = None
        self._taken = self._kept = False

    def take(self) -> None:
        """Make it where it is not there, and hold it until the context ends.

        Raises:
            UserError: another process holds it, or it cannot be written.
        """
        if self._taken:
            return
        new = not (self.path / LOCK).exists()
        try:
            self._made = files.make_folder(self.path)
            with suppress(NotImplementedError):  # a file system without locks
                self._lock.acquire(blocking=False)
            self._before = set(os.listdir(self.path)) - ({LOCK} if new else set())
            settings = self.path / "run.yaml"
            self._settings = settings.read_bytes() if settings.exists() else None
        except Timeout as reason:
            raise UserError(f"{self.path} is in use by another process") from reason
        except OSError as reason:
            files.remove_empty(self._made)
            raise UserError(f"cannot write to --out {self.path}: {reason.strerror}") from reason
        self._taken = True

    def begin(self, settings: str) -> None:
        """Write run.yaml.

        Raises:
            UserError: it cannot be written.
        """
        try:
            files.write(self.path / "run.yaml", settings)
        except OSError as reason:
            raise UserError(f"cannot write to --out {self.path}: {reason.strerror}") from reason

    def keep(self) -> None:
        """What is there now is worth something, whatever comes."""
        self._kept = True

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, reason: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(reason, UserError) and self._taken and not self._kept:
                self._undo()
        finally:
            self._lock.release()

    def _undo(self) -> None:
        """Still under the lock: nobody else's files can be among what is removed."""
        with suppress(OSError):
            if self._settings is not None:
                files.write(self.path / "run.yaml", self._settings)
            for name in set(os.listdir(self.path)) - self._before:
                path = self.path / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            files.remove_empty(self._made)


@contextmanager
def free_directory(name: str) -> Iterator[Path]:
    """runs/NAME-N with the next free N, made on the spot: a process that looks for one meanwhile takes the next.

    Gone again at the end where nothing was written to it.

    Raises:
        UserError: the folder `runs` cannot be written.
    """
    number = 1
    while True:
        folder = Path("runs") / f"{name}-{number}"
        try:
            made = files.make_folder(folder)
        except OSError as reason:
            if not os.path.lexists(folder):
                raise UserError(f"cannot write to {folder}: {reason.strerror}") from reason
            made = []  # a file of that name
        if folder in made:
            break
        number += 1
    try:
        yield folder
    finally:
        files.remove_empty(made)
