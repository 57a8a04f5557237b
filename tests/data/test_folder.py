"""A folder or an archive of images as a source: layouts, labels, the cache, and what is refused in one or two lines."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightning_gen import registry, scoring
from lightning_gen.data import cache, pictures
from lightning_gen.data.cache import Unreadable
from lightning_gen.data.folder import Arranged, Folder, arrange
from lightning_gen.errors import UserError


@pytest.fixture(autouse=True)
def cache_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LGEN_CACHE", str(tmp_path / "lgen-cache"))
    return tmp_path / "lgen-cache" / "images"


def picture(level: int, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (level, level, 0)).save(file, "png")
    return file.getvalue()


def folder(where: Path, *paths: str, level: int = 0) -> Path:
    """A folder with these files; image i of the sorted paths has the grey level `level` + i."""
    for i, path in enumerate(sorted(paths)):
        (where / path).parent.mkdir(parents=True, exist_ok=True)
        (where / path).write_bytes(picture(level + i) if path.endswith(".png") else b"text")
    return where


def levels(source: Folder) -> list[int]:
    return source.read(np.arange(len(source)))["image"][:, 0, 0, 0].tolist()


def labels(source: Folder) -> list[int]:
    return source.read(np.arange(len(source)))["label"].tolist()


def prepared(cache: Path) -> int:
    return len(list(cache.glob("*.npy"))) if cache.exists() else 0


# Layouts


def test_flat(tmp_path: Path):
    source = Folder(str(folder(tmp_path / "set", "b.png", "a.png", "c.PNG.png", "notes.txt", ".x.png")), resolution=8)
    assert (len(source), source.image_shape, source.class_names, source.split) == (3, (3, 8, 8), [], "all")
    assert "label" not in source.read(np.array([0]))
    assert source.class_counts().shape == (0,)
    assert levels(source) == [1, 2, 3]  # .x.png has 0
    assert source.notes == ["1 file ignored, not images: 1 .txt"]


def test_the_folder_where_one_stands_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder(tmp_path / "photos", "0.png"))
    assert Folder(".", 8).title == "photos (PNG)"


def test_class_folders_in_sorted_order(tmp_path: Path):
    source = Folder(str(folder(tmp_path / "set", "cat/2.png", "ant/1.png", "cat/1.png")), resolution=8)
    assert source.class_names == ["ant", "cat"]
    assert source.num_classes == 2
    assert source.class_counts().tolist() == [1, 2]
    batch = source.read(np.array([2, 0, 2]))
    assert batch["label"].tolist() == [1, 0, 1]
    assert batch["label"].dtype == torch.int64
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (3, 3, 8, 8)
    assert batch["image"][:, 0, 0, 0].tolist() == [2, 0, 2]


def test_splits_are_not_classes(tmp_path: Path):
    root = str(
        folder(tmp_path / "set", "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png", "Validation/b/9.png")
    )
    train, test = Folder(root, resolution=8), Folder(root, resolution=8, split="test")
    assert (train.split, train.class_names, levels(train), labels(train)) == ("train", ["a", "b"], [3, 4], [0, 1])
    assert (test.split, levels(test)) == ("test", [1, 2])
    val = Folder(root, resolution=8, split="val")
    assert (val.split, levels(val)) == ("validation", [0])
    assert labels(val) == [1]  # "b", as in the train split
    assert val.class_counts().tolist() == [0, 1]


def test_a_lone_folder_is_passed_through_and_said(tmp_path: Path):
    source = Folder(str(folder(tmp_path / "set", "faces/train/images/1.png")), resolution=8)
    assert (len(source), source.class_names, source.split) == (1, [], "train")
    assert source.notes == ["using the folder 'faces' inside the root", "using the folder 'images' inside faces/train"]


@pytest.mark.parametrize(
    ("paths", "split", "message"),
    [
        ([], "train", r"no images in it \(it is empty; png, jpg"),
        (["a.npy", "b.npy", "c.txt"], "train", r"no images in it \(it holds 2 \.npy, 1 \.txt;"),
        (["1.png"], "test", r"--data\.split test: set has no splits"),
        (["train/1.png", "val/1.png"], "test", r"--data\.split test: set has no such split \(it has train, val\)"),
        (["test/1.png"], "train", r"--data\.split train: set has no such split \(it has test\)"),
        (
            ["a/b/c1/1.png", "a/b/c2/1.png"],
            "train",
            r"more than one lone folder deep, in a/b: give --data\.root set/a/b$",
        ),
        (["train/a/b/1.png"], "train", r"more than one lone folder deep, in train/a/b: "),
        (
            ["a/deep/1.png", "b/deep/1.png"],
            "train",
            r"class folder set/a holds no images itself, only folders \(deep\)",
        ),
        (["a/1.png", "b/deep/1.png"], "train", r"class folder set/b holds no images itself"),
        (["1.png", "a/1.png"], "train", r"set holds both images \(1\.png\) and folders of images \(a\)"),
        (["train/a/1.png", "Train/a/2.png"], "train", r"set has two folders for one split \(Train, train\)"),
        (["train/1.png", "bus/1.png", "car/1.png"], "train", r"set/train may be a split or a class, beside bus, car"),
    ],
)
def test_layouts_that_are_refused(paths: list[str], split: str, message: str):
    with pytest.raises(UserError, match=message) as caught:
        arrange(paths, "set", split)
    assert len(str(caught.value).splitlines()) == 1


def test_an_archive_nested_too_deep_is_to_be_unpacked():
    with pytest.raises(UserError, match=r"unpack it and give --data\.root the folder a/b"):
        arrange(["a/b/1.png"], "set.zip", "train", is_archive=True)


@pytest.mark.parametrize(
    ("paths", "note"),
    [
        (["train/1.png", "extra/1.png"], "beside the splits, not used: extra"),
        (["train/1.png", "teaser.png"], "1 image beside the splits not used: teaser.png"),
        (["a/1.png", "a/old/1.png", "a/old/2.png", "b/1.png"], "2 images in folders inside the class 'a' not used"),
    ],
)
def test_what_is_left_out_is_said(paths: list[str], note: str):
    assert note in arrange(paths, "set", "train").notes


names = st.sampled_from(["ant", "bee", "cat", "Dog", "10", "9", "é"])


@given(
    st.dictionaries(names, st.sets(names, min_size=1), min_size=2),
    st.sampled_from(["", "train", "test"]),
    st.sampled_from(["", "wrapper"]),
    st.randoms(use_true_random=False),
)
def test_any_class_layout_is_read_as_written(classes: dict[str, set[str]], split: str, wrapper: str, random):
    below = "/".join(filter(None, [wrapper, split]))
    expected = [(label, f"{below}/{name}/{file}.jpg".lstrip("/")) for label, name in enumerate(sorted(classes)) for file in sorted(classes[name])]  # fmt: skip  # noqa: E501
    files = [path for _, path in expected]
    random.shuffle(files)
    got = arrange(files, "set", split or "train")
    assert got.class_names == sorted(classes)
    assert list(zip(got.labels, got.paths, strict=True)) == expected
    assert got.split == (split or "all")
    assert len(got.notes) == bool(wrapper)


@given(st.sets(names, min_size=1), st.sampled_from(["", "train"]), st.sampled_from(["", "wrapper"]))
def test_any_flat_layout_has_no_labels(files: set[str], split: str, wrapper: str):
    below = "/".join(filter(None, [wrapper, split]))
    paths = sorted(f"{below}/{file}.jpg".lstrip("/") for file in files)
    assert arrange(paths, "set", "train") == Arranged(
        paths, [0] * len(paths), [], split or "all", ["using the folder 'wrapper' inside the root"] if wrapper else []
    )


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": ""}, r"needs --data\.root"),
        ({"root": "/nowhere/at/all"}, r"--data\.root /nowhere/at/all: there is no such"),
        ({"resolution": 3}, r"--data\.resolution 3 is too small: 4 or more"),
        ({"channels": 2}, r"--data\.channels 2: 3 \(colour\) or 1 \(grey\)"),
        ({"on_error": "ignore"}, r"--data\.on_error ignore: stop or skip"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, settings: dict, message: str):
    root = str(folder(tmp_path / "set", "1.png"))
    with pytest.raises(UserError, match=message):
        Folder(**{"root": root, **settings})


def test_grey_and_resized(tmp_path: Path):
    source = Folder(str(folder(tmp_path / "set", "1.png", level=100)), resolution=16, channels=1)
    assert source.read(np.array([0]))["image"].shape == (1, 1, 16, 16)
    assert source.notes == [
        "1 image in colour turned to grey (ITU-R 601 luma)",
        "1 image smaller than the resolution enlarged to it",
    ]


def test_flip_mirrors_by_chance_and_leaves_labels(tmp_path: Path):
    root = folder(tmp_path / "set", "a/1.png", "b/1.png")
    half = Image.new("RGB", (8, 8))
    half.paste("white", (0, 0, 4, 8))
    half.save(root / "a" / "1.png")
    source = Folder(str(root), resolution=8, flip=True)
    batch = source.read(np.array([0, 0, 1]))
    changed = source.augment(batch, np.array([0.49, 0.5, 0.0]))
    assert torch.equal(changed["image"][0], batch["image"][0].flip(-1))
    assert not torch.equal(changed["image"][0], batch["image"][0])
    assert torch.equal(changed["image"][1:], batch["image"][1:])
    assert changed["label"] is batch["label"]
    assert Folder(str(root), resolution=8).augment(batch, np.zeros(3)) is batch
    assert Folder(str(root), resolution=8).digest() == source.digest()


# Unreadable images


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.xz"])
def test_an_unreadable_image_stops_or_is_skipped(tmp_path: Path, cache_of_this_test: Path, kind: str):
    whole = picture(5, size=64)
    files = {"a/1.png": picture(1), "a/2.png": whole[:100], "b/1.png": picture(2), "b/2.jpg": b"no image"}
    root = folder(tmp_path / "set")
    if kind == "folder":
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    elif kind == "zip":
        root = tmp_path / "set.zip"
        with zipfile.ZipFile(root, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    else:
        root = tmp_path / "set.tar.xz"
        with tarfile.open(root, "w:xz") as packed:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
    with pytest.raises(Unreadable, match=r"the image a/2\.png cannot be read \(.+\)") as caught:
        Folder(str(root), resolution=8)
    assert "\n" not in str(caught.value)
    assert prepared(cache_of_this_test) == 0
    assert not list(cache_of_this_test.glob("*unfinished*"))
    for _ in range(2):  # prepared, and found again
        source = Folder(str(root), resolution=8, on_error="skip")
        assert levels(source) == [1, 2]
        assert labels(source) == [0, 1]
        (note,) = source.notes
        assert note.startswith("2 unreadable images skipped: a/2.png (")
        assert note.endswith("b/2.jpg (not an image, or of a kind that is not read)")


OF_FILES = [
    "colorize",
    "denoise",
    "edges",
    "groups",
    "inpaint",
    "paired",
    "stacked-mnist",
    "super-resolution",
    "unpaired",
]


@pytest.mark.parametrize("name", OF_FILES)
def test_a_source_without_the_option_does_not_advise_to_skip_an_unreadable_image(name: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "set", "A/1.png", "B/1.png")
    (root / "A" / "2.png").write_bytes(picture(1)[:45])
    with pytest.raises(UserError, match=r"2\.png cannot be read \([^\n]+\)$"):
        registry.make(name, "data", root=str(root), resolution=8)


def test_pictures_b_that_cannot_be_read_are_named_without_advice_to_skip_them(tmp_path: Path) -> None:
    a, b = (folder(tmp_path / name, "1.png", "2.png") for name in "ab")
    (b / "2.png").write_bytes(picture(1)[:45])
    for name in ("paired", "unpaired"):
        with pytest.raises(UserError, match=r"--data\.root_b .+ 2\.png cannot be read \([^\n]+\)$"):
            registry.make(name, "data", root=str(a), root_b=str(b), resolution=8)


def test_a_verb_that_reads_the_data_of_a_run_has_no_option_to_skip_an_unreadable_image(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", "1.png")
    (root / "2.png").write_bytes(picture(1)[:45])
    with pytest.raises(UserError, match=r"2\.png cannot be read \([^\n]+\)$"):
        scoring.registered_source("folder", {"root": str(root), "resolution": 8, "on_error": "stop"})


def test_a_broken_link_is_an_unreadable_image(tmp_path: Path):
    root = folder(tmp_path / "set", "1.png")
    (root / "2.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"the image 2\.png cannot be read \(No such file or directory\)"):
        Folder(str(root), resolution=8)


def test_nothing_readable_at_all(tmp_path: Path):
    root = folder(tmp_path / "set")
    root.mkdir()
    (root / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match="none of its 1 images can be read"):
        Folder(str(root), on_error="skip")


def test_a_cut_archive_leaves_nothing(tmp_path: Path, cache_of_this_test: Path):
    root = tmp_path / "set.tar.gz"
    with tarfile.open(root, "w:gz") as packed:
        packed.add(folder(tmp_path / "set", *(f"{i}.png" for i in range(50))), "set")
    root.write_bytes(root.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"set\.tar\.gz: the archive is damaged or incomplete"):
        Folder(str(root), resolution=8)
    assert prepared(cache_of_this_test) == 0


# The cache


def test_a_later_start_decodes_and_hashes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = str(folder(tmp_path / "set", "a/1.png", "b/1.png", "notes.txt"))
    first = Folder(root, resolution=8)
    monkeypatch.setattr(cache, "decode_all", None)
    monkeypatch.setattr("lightning_gen.data.archive._sha256", None)
    second = Folder(root, resolution=8)
    assert second.digest() == first.digest()
    assert second.notes == first.notes
    assert torch.equal(second.class_counts(), first.class_counts())


def test_touched_moved_and_packed_files_are_the_same_content(
    tmp_path: Path, cache_of_this_test: Path, capfd: pytest.CaptureFixture[str]
):
    root = folder(tmp_path / "set", "a/1.png", "b/1.png")
    first = Folder(str(root), resolution=8)
    assert capfd.readouterr().err == f"preparing {root}: 2 images, once\n"
    os.utime(root / "a/1.png")
    Folder(str(root), resolution=8)
    root = root.rename(tmp_path / "moved")
    Folder(str(root), resolution=8)
    assert capfd.readouterr().err == ""
    assert prepared(cache_of_this_test) == 1
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        for path in ("a/1.png", "b/1.png"):
            packed.write(root / path, f"wrapped/{path}")
    assert Folder(str(tmp_path / "set.zip"), resolution=8).digest() == first.digest()


def test_a_changed_image_is_a_miss_even_with_its_old_time(tmp_path: Path):
    root = folder(tmp_path / "set", "1.png", "2.png")
    first, times = Folder(str(root), resolution=8), os.stat(root / "2.png")
    (root / "2.png").write_bytes(picture(77))
    os.utime(root / "2.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    second = Folder(str(root), resolution=8)
    assert levels(second) == [0, 77]
    assert second.digest() != first.digest()
    assert levels(first) == [0, 1]  # what a running job reads does not change under it


@pytest.mark.parametrize(
    "change",
    [{"resolution": 16}, {"channels": 1}, {"split": "test"}, {"on_error": "skip"}],
    ids=lambda change: next(iter(change)),
)
def test_another_preparation_is_a_miss(tmp_path: Path, cache_of_this_test: Path, change: dict):
    root = str(folder(tmp_path / "set", "train/1.png", "test/1.png"))
    Folder(root, resolution=8)
    Folder(**{"root": root, "resolution": 8, **change})
    assert prepared(cache_of_this_test) == 2


def test_a_new_class_in_the_train_split_moves_the_labels_of_the_test_split(tmp_path: Path):
    root = folder(tmp_path / "set", "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
    assert labels(Folder(str(root), resolution=8, split="test")) == [0, 1]
    folder(root, "train/A/1.png")
    source = Folder(str(root), resolution=8, split="test")
    assert source.class_names == ["A", "a", "b"]
    assert labels(source) == [1, 2]


def test_a_class_that_train_lacks_does_not_shift_the_labels_of_the_others(tmp_path: Path):
    root = folder(tmp_path / "set", "train/a/1.png", "train/c/1.png", "test/b/1.png", "test/c/1.png")
    source = Folder(str(root), resolution=8, split="test")
    assert source.class_names == ["a", "c", "b"]
    assert labels(source) == [1, 2]
    assert "classes that train does not have, numbered behind its own: b" in source.notes


def test_files_that_change_while_they_are_read(
    tmp_path: Path, cache_of_this_test: Path, monkeypatch: pytest.MonkeyPatch
):
    root = folder(tmp_path / "set", "1.png")
    decode_all = cache.decode_all

    def meanwhile(*args, **kwargs):
        folder(root, "2.png")  # a copy that is still going on
        return decode_all(*args, **kwargs)

    monkeypatch.setattr(cache, "decode_all", meanwhile)
    with pytest.raises(UserError, match="changed while it was read"):
        Folder(str(root), resolution=8)
    assert prepared(cache_of_this_test) == 0


def test_the_settings_are_read_off_the_signature(tmp_path: Path):
    from lightning_gen.cli import listing

    known = listing.settings(Folder)
    assert list(known) == ["root", "resolution", "channels", "split", "flip", "on_error"]
    assert all(about["help"] for about in known.values())


@pytest.mark.parametrize("size", [1, 8])
def test_the_pixels_of_a_picture_may_be_written_to_which_torch_warns_of_otherwise(size: int) -> None:
    for channels in (1, 3):
        assert torch.from_numpy(pictures.whole(picture(7, size), channels)).shape == (channels, size, size)
