"""The files of a folder or of an archive, listed and read the same way, never written anywhere.

Paths are relative to the root, with "/", and those of hidden files (and of macOS's __MACOSX) are left out.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

from lightning_gen.data.pictures import LARGEST_FILE, is_image
from lightning_gen.errors import UserError

TAR = (".tar", ".tar.xz", ".txz", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")
KNOWN = ".zip, .tar, .tar.xz, .tar.gz, .tgz or .tar.bz2"
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, struct.error),
    *(EOFError, NotImplementedError, OSError, ValueError, IndexError),
)
"""What the standard library raises on a damaged archive, between them (gzip and bz2 raise OSError, names that are no
UTF-8 a ValueError, empty ones an IndexError)."""

NOWHERE = -1
"""The place of an image that is a link to what the archive does not hold."""

KEEP = 256 * 2**20
"""Bytes of images that may be held while a tar is listed."""

Load = Callable[[], bytes]
"""Gives the content of one file, in any thread; may raise what reading a damaged file raises."""


class Files(ABC):
    """Files below one root, named `root` as the user typed it."""

    root: str
    is_archive: bool

    @property
    @abstractmethod
    def signature(self) -> str:
        """Changes, without reading any content, when a file does: names, sizes and times."""

    @abstractmethod
    def paths(self) -> list[str]:
        """Every file, sorted. Raises UserError where the archive is damaged or unsafe."""

    @abstractmethod
    def digest(self, paths: Iterable[str]) -> str:
        """A hex digest of the content of these files and their names (of an archive, of all of it)."""

    @abstractmethod
    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, Load]]:
        """Each of these files once, in the order in which they are read fastest."""


def is_there(root: str) -> bool:
    """Whether there is such a file or folder, or an archive that `root` may mean a folder of."""
    path = Path(root).expanduser()
    return path.exists() or any(parent.is_file() for parent in path.parents)


def open_root(root: str) -> Files:
    """The files below `root`: a folder, or an archive known by its suffix.

    Of an archive one folder alone may be meant: ``photos.zip/trainA``.

    Raises:
        UserError: nothing of that name, or something else.
    """
    path = Path(root).expanduser()
    if os.path.isdir(path):  # Path's own raises at names longer than any file has
        return Folder(root, path)
    if not os.path.exists(path):
        if around := next((parent for parent in path.parents if os.path.isfile(parent)), None):
            return Below(root, open_root(str(around)), path.relative_to(around).as_posix())
        raise UserError(f"--data.root {root}: there is no such folder or archive")
    if path.name.lower().endswith(".zip"):
        return Zip(root, path)
    if path.name.lower().endswith(TAR):
        return Tar(root, path)
    raise UserError(f"--data.root {root}: neither a folder nor an archive that can be read ({KNOWN})")


def title(root: str) -> str:
    """What the files below `root` are called: the last part of where they lie, also where that is `.`"""
    return os.path.basename(os.path.abspath(os.path.expanduser(root)))


class Folder(Files):
    """A folder; links are followed, as people link the images of a set from elsewhere."""

    is_archive = False

    def __init__(self, root: str, path: Path):
        self.root = root
        self._path = path
        self._found: dict[str, tuple[int, int, int]] = {}
        try:
            self._walk(path, "", ())
        except OSError as reason:
            raise UserError(f"--data.root {root}: {reason.strerror}: {reason.filename}") from reason

    def _walk(self, folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        here = folder.stat()
        if (here.st_dev, here.st_ino) in above:  # a link to a folder that it lies in
            return
        above = (*above, (here.st_dev, here.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                path = prefix + entry.name
                if _hidden(path):
                    continue
                if entry.is_dir():
                    self._walk(Path(entry.path), f"{path}/", above)
                elif entry.is_file():
                    about = entry.stat()
                    self._found[path] = (about.st_size, about.st_mtime_ns, about.st_ctime_ns)
                elif entry.is_symlink():  # leads nowhere: kept, so that reading it names it
                    self._found[path] = (-1, 0, 0)

    @property
    def signature(self) -> str:
        """Of name, size and times of every file."""
        return hashlib.sha256(repr(sorted(self._found.items())).encode("utf-8", "surrogateescape")).hexdigest()

    def paths(self) -> list[str]:
        """Every file, sorted."""
        return sorted(self._found)

    def digest(self, paths: Iterable[str]) -> str:
        """Of these files alone, read in threads."""
        whole = hashlib.sha256()
        paths = list(paths)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, digest in zip(paths, pool.map(self._digest_one, paths), strict=True):
                whole.update(os.fsencode(path) + b"\0" + digest)
        return whole.hexdigest()

    def _digest_one(self, path: str) -> bytes:
        try:
            return _sha256(self._path / path)
        except OSError as reason:  # unreadable now; when it can be read, that is another content
            return str(reason.strerror).encode()

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, Load]]:
        """In the order given, each file when its turn comes."""
        for path in paths:
            yield path, partial(self._load, path)

    def _load(self, path: str) -> bytes:
        _refuse_huge(self._found[path][0])
        return (self._path / path).read_bytes()


class Archive(Files):
    """What zip and tar share: members are listed once, checked all, and read by their place in the archive."""

    is_archive = True

    def __init__(self, root: str, path: Path):
        self.root = root
        self._path = path
        self._places: dict[str, int] | None = None

    @property
    def signature(self) -> str:
        """Of size and times of the archive."""
        about = self._path.stat()
        return f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}"

    def digest(self, paths: Iterable[str]) -> str:
        """Of the archive itself: nothing is unpacked for it."""
        return _sha256(self._path).hex()

    def paths(self) -> list[str]:
        """Every file, sorted; every member was checked."""
        return sorted(self._where())

    def _where(self) -> dict[str, int]:
        """Path to place of the content; of members of one name the last counts, as it would when unpacked."""
        if self._places is None:
            places: dict[str, int] = {}
            links: dict[str, str] = {}
            for place, name, target in self._members():
                path = self._inside(name, name)
                places.pop(path, None)
                links.pop(path, None)
                if target is not None:
                    links[path] = self._inside(target, name)
                else:
                    places[path] = place
            self._places = {path: place for path, place in _followed(places, links).items() if not _hidden(path)}
        return self._places

    def _inside(self, name: str, member: str) -> str:
        """`name` without "./"; refused where it leads out of the archive."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in parts:
            raise UserError(f"--data.root {self.root}: refused, its member {member!r} leads out of the archive")
        return "/".join(parts)

    def _damaged(self, reason: BaseException) -> NoReturn:
        if isinstance(reason, PermissionError):
            raise UserError(f"--data.root {self.root}: {reason.strerror}") from reason
        words = " ".join(str(reason).split()) or type(reason).__name__
        if words.startswith("file could not be opened"):  # tarfile's list of every compression that it tried
            words = "it is no tar archive"
        raise UserError(f"--data.root {self.root}: the archive is damaged or incomplete ({words})") from reason

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, Load]]:
        """In the order of the archive; links that lead nowhere first."""
        wanted: dict[int, list[str]] = {}
        for path in paths:
            wanted.setdefault(self._where()[path], []).append(path)
        for path in wanted.pop(NOWHERE, ()):
            yield path, _leads_nowhere
        if wanted:
            yield from self._read(wanted)

    @abstractmethod
    def _read(self, wanted: dict[int, list[str]]) -> Iterator[tuple[str, Load]]:
        """The members at these places, each under all of its paths."""

    @abstractmethod
    def _members(self) -> Iterator[tuple[int, str, str | None]]:
        """(place, name, target of a link) of every file."""


class Below(Files):
    """One folder of an archive, as if it were all of it."""

    is_archive = True

    def __init__(self, root: str, whole: Files, folder: str):
        self.root = root
        self._whole = whole
        self._folder = f"{folder}/"

    @property
    def signature(self) -> str:
        """Of the archive."""
        return self._whole.signature

    def paths(self) -> list[str]:
        """Of this folder, relative to it."""
        below = (path for path in self._whole.paths() if path.startswith(self._folder))
        return [path.removeprefix(self._folder) for path in below]

    def digest(self, paths: Iterable[str]) -> str:
        """Of the archive and the folder's name: two folders of one archive are two sets."""
        return hashlib.sha256(f"{self._whole.digest(())}\0{self._folder}".encode()).hexdigest()

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, Load]]:
        """As the archive reads."""
        for path, load in self._whole.read([self._folder + path for path in paths]):
            yield path.removeprefix(self._folder), load


class Zip(Archive):
    """A .zip: members are read, and checked against their checksums, in whatever thread asks."""

    def _members(self) -> Iterator[tuple[int, str, str | None]]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                for place, info in enumerate(archive.infolist()):
                    name = info.filename.replace("\\", "/")  # some writers on Windows
                    if info.flag_bits & 1:
                        raise UserError(f"--data.root {self.root}: the archive is encrypted ({name!r})")
                    if stat.S_ISLNK(info.external_attr >> 16):
                        target = archive.read(info).decode("utf-8", "replace")
                        yield place, name, _beside(name, target)
                    elif not info.is_dir():
                        yield place, name, None
                    else:
                        self._inside(name, name)
        except DAMAGE as reason:
            self._damaged(reason)

    def _read(self, wanted: dict[int, list[str]]) -> Iterator[tuple[str, Load]]:
        try:
            archive = zipfile.ZipFile(self._path)  # closes itself after the last of the loads, which outlive this loop
        except DAMAGE as reason:
            self._damaged(reason)
        members = archive.infolist()
        for place in sorted(wanted, key=lambda place: members[place].header_offset):
            for path in wanted[place]:
                yield path, partial(self._load, archive, members[place])

    @staticmethod
    def _load(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
        _refuse_huge(member.file_size)
        return archive.read(member)


class Tar(Archive):
    """A .tar, compressed or not: read from the front to the back, as xz and gzip cannot jump.

    What there is must be known before the first image is wanted. So that a set of small images is nevertheless
    unpacked only once, listing keeps their content, up to KEEP bytes.
    """

    def __init__(self, root: str, path: Path):
        super().__init__(root, path)
        self._kept: dict[int, bytes] = {}
        self._room = KEEP

    def _members(self) -> Iterator[tuple[int, str, str | None]]:
        try:
            with tarfile.open(self._path, tarinfo=_StrictInfo) as archive:
                for place, info in enumerate(archive):
                    if info.issym():
                        yield place, info.name, _beside(info.name, info.linkname)
                    elif info.islnk():
                        yield place, info.name, info.linkname
                    elif info.isfile():
                        yield place, info.name, None
                        self._keep(archive, place, info)
                    else:
                        self._inside(info.name, info.name)
        except DAMAGE as reason:
            self._damaged(reason)

    def _read(self, wanted: dict[int, list[str]]) -> Iterator[tuple[str, Load]]:
        """What was kept, then the rest."""
        for place in sorted(self._kept.keys() & wanted.keys()):
            for path in wanted.pop(place):
                yield path, partial(self._load, self._kept[place], 0)
        if not wanted:
            return
        try:
            with tarfile.open(self._path, tarinfo=_StrictInfo) as archive:
                for place, info in enumerate(archive):
                    for path in wanted.pop(place, ()):
                        yield path, partial(self._load, self._content(archive, info), info.size)
                    if not wanted:
                        return
        except DAMAGE as reason:
            self._damaged(reason)

    def _keep(self, archive: tarfile.TarFile, place: int, info: tarfile.TarInfo) -> None:
        if info.size <= self._room and is_image(info.name):
            self._kept[place] = self._content(archive, info)
            self._room -= info.size

    @staticmethod
    def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
        file = archive.extractfile(info) if info.size <= LARGEST_FILE else None
        return file.read() if file else b""

    @staticmethod
    def _load(content: bytes, size: int) -> bytes:
        _refuse_huge(size)
        return content


class _StrictInfo(tarfile.TarInfo):
    """Damage between two members is an error: tarfile takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _StrictInfo:
        try:
            return super().fromtarfile(archive)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as reason:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"{reason} at byte {archive.offset}") from reason


def _hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _followed(places: dict[str, int], links: dict[str, str]) -> dict[str, int]:
    """`places`, and what is found through links: files, and all files of folders, as in what would be unpacked."""
    files, folders = dict(places), {}
    for path, target in links.items():
        for _ in range(8):  # a link to a link; a circle ends too
            target = links.get(target, target)
        if target in places:
            files[path] = places[target]
        elif not path.startswith(f"{target}/"):  # else a link to a folder that it lies in
            folders[path] = f"{target}/"
    found = dict(files)
    for path, folder in folders.items():
        below = [file for file in files if file.startswith(folder)]
        found |= {f"{path}/{file.removeprefix(folder)}": files[file] for file in below}
        if not below and is_image(path):
            found[path] = NOWHERE
    return found


def _leads_nowhere() -> bytes:
    raise FileNotFoundError("a link to what the archive does not hold")


def _beside(name: str, target: str) -> str:
    """Where a symbolic link at `name` leads, from the root of the archive."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.digest()


def _refuse_huge(size: int) -> None:
    if size > LARGEST_FILE:
        raise ValueError(f"{size} bytes are too many for one image")
