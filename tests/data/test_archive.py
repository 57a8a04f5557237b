"""Folder, zip and tar are listed and read alike; what is damaged or leads out of the archive is refused by name."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from lightning_gen.data import archive
from lightning_gen.errors import UserError

FILES = {"a/1.png": b"one", "a/2.png": b"two", "b/1.png": b"three", "list.csv": b"1,2"}
CLUTTER = {".hidden.png": b"-", "__MACOSX/a/._1.png": b"-", "a/.cache/x.png": b"-"}
KINDS = ["folder", "zip", "tar", "tar.xz", "tar.gz", "tgz", "tar.bz2"]


def pack(files: dict[str, bytes], where: Path, kind: str) -> Path:
    """`files` as a folder or an archive of this kind, in `where`."""
    path = where / f"set.{kind}"
    if kind == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    else:
        compression = kind.removeprefix("tar.").replace("tgz", "gz").removeprefix("tar")
        with tarfile.open(path, f"w:{compression}") as packed:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def contents(root: Path) -> dict[str, bytes]:
    files = archive.open_root(str(root))
    return {path: load() for path, load in files.read(files.paths())}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_list_and_read_the_same_without_hidden_files(tmp_path: Path, kind: str):
    root = pack({**CLUTTER, **FILES}, tmp_path, kind)
    assert archive.open_root(str(root)).paths() == sorted(FILES)
    assert contents(root) == FILES


@pytest.mark.parametrize("kind", ["zip", "tar.xz"])
def test_some_files_of_an_archive(tmp_path: Path, kind: str):
    files = archive.open_root(str(pack(FILES, tmp_path, kind)))
    assert {path: load() for path, load in files.read(["list.csv", "b/1.png"])} == {
        "b/1.png": b"three",
        "list.csv": b"1,2",
    }


def test_a_tar_larger_than_what_listing_keeps_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "KEEP", 4)
    assert contents(pack(FILES, tmp_path, "tar.gz")) == FILES


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_signature_and_digest_follow_the_content(tmp_path: Path, kind: str):
    files = archive.open_root(str(pack(FILES, tmp_path, kind)))
    before = files.signature, files.digest(files.paths())
    again = archive.open_root(files.root)
    assert before == (again.signature, again.digest(again.paths()))
    changed = archive.open_root(str(pack({**FILES, "a/1.png": b"ONE"}, tmp_path, kind)))
    assert changed.signature != before[0]
    assert changed.digest(changed.paths()) != before[1]


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path):
    root = pack(FILES, tmp_path, "folder")
    before, times = archive.open_root(str(root)).signature, os.stat(root / "a/1.png")
    (root / "a/1.png").write_bytes(b"ONE")
    os.utime(root / "a/1.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert archive.open_root(str(root)).signature != before


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:/evil.png", "C:evil.png"])
def test_members_that_lead_out_are_refused_by_name(tmp_path: Path, kind: str, name: str):
    root = pack({**FILES, name: b"-"}, tmp_path, kind)
    with pytest.raises(UserError, match=r"set\.\w+: refused, its member .*evil\.png' leads out of the archive"):
        archive.open_root(str(root)).paths()


def test_backslashes_in_a_zip_are_separators(tmp_path: Path):
    with pytest.raises(UserError, match="leads out"):
        archive.open_root(str(pack({"..\\evil.png": b"-"}, tmp_path, "zip"))).paths()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd"])
def test_links_that_lead_out_of_a_tar_are_refused(tmp_path: Path, kind: bytes, target: str):
    root = tmp_path / "set.tar"
    with tarfile.open(root, "w") as packed:
        packed.addfile(link("a/1.png", target, kind))
    with pytest.raises(UserError, match=r"'a/1\.png' leads out"):
        archive.open_root(str(root)).paths()


def test_links_inside_a_tar_have_the_content_they_lead_to(tmp_path: Path):
    root = pack({"a/1.png": b"one"}, tmp_path, "tar")
    with tarfile.open(root, "a") as packed:
        packed.addfile(link("b/soft.png", "../a/1.png"))
        packed.addfile(link("b/hard.png", "a/1.png", tarfile.LNKTYPE))
        packed.addfile(link("b/chain.png", "soft.png"))
        packed.addfile(link("c", "b"))
        packed.addfile(link("a/up", "../a"))
    linked = [f"{folder}/{name}.png" for folder in "bc" for name in ("chain", "hard", "soft")]
    assert contents(root) == dict.fromkeys(["a/1.png", *linked], b"one")


def test_an_image_that_is_a_link_to_nothing_cannot_be_read(tmp_path: Path):
    root = pack({"a/1.png": b"one"}, tmp_path, "tar")
    with tarfile.open(root, "a") as packed:
        for name, target in (("gone.png", "nowhere.png"), ("circle.png", "circle.png"), ("notes.txt", "nowhere.txt")):
            packed.addfile(link(f"b/{name}", target))
    files = archive.open_root(str(root))
    assert files.paths() == ["a/1.png", "b/circle.png", "b/gone.png"]
    loads = dict(files.read(files.paths()))
    assert loads["a/1.png"]() == b"one"
    for name in ("gone", "circle"):
        with pytest.raises(FileNotFoundError):
            loads[f"b/{name}.png"]()


def test_links_of_a_zip(tmp_path: Path):
    root = tmp_path / "set.zip"
    member = zipfile.ZipInfo("b/soft.png")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    for target, leads_out in (("../a/1.png", False), ("../../a/1.png", True)):
        with zipfile.ZipFile(root, "w") as packed:
            packed.writestr("a/1.png", b"one")
            packed.writestr(member, target)
        if leads_out:
            with pytest.raises(UserError, match="leads out"):
                archive.open_root(str(root)).paths()
        else:
            assert contents(root) == {"a/1.png": b"one", "b/soft.png": b"one"}


def test_links_of_a_folder_are_followed_and_circles_end(tmp_path: Path):
    root = pack({"a/1.png": b"one"}, tmp_path, "folder")
    (root / "b").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    files = archive.open_root(str(root))
    assert {"a/1.png", "b/1.png", "a/gone.png"} <= set(files.paths())
    assert len(files.paths()) < 10
    with pytest.raises(FileNotFoundError):  # read as an image that cannot be read
        dict(files.read(["a/gone.png"]))["a/gone.png"]()


def test_the_last_of_two_members_with_one_name_counts(tmp_path: Path):
    root = pack({"a/1.png": b"old"}, tmp_path, "tar")
    with tarfile.open(root, "a") as packed:
        member = tarfile.TarInfo("a/1.png")
        member.size = 3
        packed.addfile(member, io.BytesIO(b"new"))
        packed.addfile(link("b/1.png", "../a/1.png"))
        member.name = "b/1.png"
        packed.addfile(member, io.BytesIO(b"own"))
    assert contents(root) == {"a/1.png": b"new", "b/1.png": b"own"}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_cut_archive_is_damaged(tmp_path: Path, kind: str):
    root = pack({f"{i}.png": os.urandom(2000) for i in range(20)}, tmp_path, kind)
    root.write_bytes(root.read_bytes()[:15_300])
    with pytest.raises(UserError, match=rf"set\.{kind}: the archive is damaged or incomplete \(.+\)$"):
        contents(root)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_file_that_is_no_archive_is_damaged(tmp_path: Path, kind: str):
    root = tmp_path / f"set.{kind}"
    root.write_bytes(b"<html>404 not found</html>" * 100)
    with pytest.raises(UserError, match="the archive is damaged or incomplete") as caught:
        archive.open_root(str(root)).paths()
    assert len(str(caught.value).splitlines()) == 1


def test_damage_between_two_members_of_a_tar_is_not_its_end(tmp_path: Path):
    root = pack({f"{i}.png": b"-" * 512 for i in range(4)}, tmp_path, "tar")
    content = bytearray(root.read_bytes())
    content[2048:2100] = os.urandom(52)  # the header of the third member
    root.write_bytes(content)
    with pytest.raises(UserError, match="at byte 2048"):
        archive.open_root(str(root)).paths()


@pytest.mark.parametrize("name", ["é.png", "a.png"])
def test_a_name_that_cannot_be_one_is_damage(tmp_path: Path, name: str):
    root = pack({name: b"-"}, tmp_path, "zip")
    wrong = b"\xe9\xe9" if name == "é.png" else b""
    data = root.read_bytes()
    if wrong:
        data = data.replace(name[0].encode(), wrong)
    else:  # a name of no bytes, in the table at the end
        table = data.rindex(b"PK\x01\x02")
        data = data[: table + 28] + b"\0\0" + data[table + 30 :]
    root.write_bytes(data)
    with pytest.raises(UserError, match="damaged or incomplete"):
        archive.open_root(str(root)).paths()


def test_a_damaged_member_of_a_zip_concerns_that_member_alone(tmp_path: Path):
    root = pack(FILES, tmp_path, "zip")
    root.write_bytes(root.read_bytes().replace(b"three", b"THREE"))
    files = archive.open_root(str(root))
    loads = dict(files.read(files.paths()))
    assert loads["a/1.png"]() == b"one"
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        loads["b/1.png"]()


def test_an_encrypted_zip_is_said_to_be(tmp_path: Path):
    root = pack(FILES, tmp_path, "zip")
    content = bytearray(root.read_bytes())
    at = content.index(b"PK\x01\x02") + 8  # the flags in the central directory
    content[at] |= 1
    root.write_bytes(content)
    with pytest.raises(UserError, match="encrypted"):
        archive.open_root(str(root)).paths()


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_file_of_absurd_size_is_not_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "LARGEST_FILE", 4)
    monkeypatch.setattr(archive, "KEEP", 0)
    files = archive.open_root(str(pack(FILES, tmp_path, kind)))
    loads = dict(files.read(files.paths()))
    assert loads["a/1.png"]() == b"one"
    with pytest.raises(ValueError, match="too many"):
        loads["b/1.png"]()


def test_unknown_roots_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"--data\.root .*/gone: there is no such folder or archive"):
        archive.open_root(str(tmp_path / "gone"))
    (tmp_path / "set.rar").write_bytes(b"Rar!")
    with pytest.raises(UserError, match=r"set\.rar: neither a folder nor an archive that can be read \(\.zip, \.tar"):
        archive.open_root(str(tmp_path / "set.rar"))
