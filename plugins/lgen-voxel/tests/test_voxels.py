"""Solids as data: drawn alike everywhere, read from files, and held out so that no object is on both sides."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from lgen_voxel import scores, solids
from lgen_voxel.voxels import Voxels

from lightning_gen.errors import UserError
from lightning_gen.testing import check_data


def test_the_data_keeps_the_contract() -> None:
    check_data("voxels")


@pytest.mark.parametrize("row", range(8))
def test_every_kind_of_solid_is_one_piece_inside_the_cube(row: int) -> None:
    for again in range(3):
        solid = solids.solid(row + 8 * again, "train", 32)
        assert scores.largest_piece(solid) == 1
        assert 0.005 < solid.mean() < 0.5
        faces = [solid[0], solid[-1], solid[:, 0], solid[:, -1]]
        assert not any(face.any() for face in faces), "none touches a side of the cube"


def test_solids_of_one_kind_differ_and_the_splits_share_none() -> None:
    train = {solids.solid(row, "train", 16).tobytes() for row in range(0, 80, 8)}
    test = {solids.solid(row, "test", 16).tobytes() for row in range(0, 80, 8)}
    assert len(train) > 7
    assert not train & test


def test_a_twice_as_fine_solid_is_the_same_one() -> None:
    coarse = torch.from_numpy(solids.solid(7, "train", 16)).float()
    fine = torch.from_numpy(solids.solid(7, "train", 32)).float()
    assert (torch.nn.functional.avg_pool3d(fine[None], 2)[0] - coarse).abs().mean() < 0.03


def folder(path: Path, splits: tuple[str, ...] = ("",)) -> Path:
    for split in splits:
        for kind, first in (("cups", 0), ("jars", 40)):
            home = path / split / kind
            home.mkdir(parents=True)
            for i in range(20):
                volume = np.zeros((8, 8, 8), dtype=np.uint8)
                volume.reshape(-1)[: first + i + 1 + (100 if split == "test" else 0)] = 1
                np.save(home / f"{i}.npy", volume)
            np.save(home / "again.npy", volume)
    return path


def test_equal_objects_count_once_and_each_is_on_one_side(tmp_path: Path) -> None:
    root = str(folder(tmp_path / "set"))
    parts = {split: Voxels(root, split=split) for split in ("train", "test")}
    kept = {split: {volume.numpy().tobytes() for volume in of_all(part)} for split, part in parts.items()}
    assert len(kept["train"]) + len(kept["test"]) == 40 == len(parts["train"]) + len(parts["test"])
    assert not kept["train"] & kept["test"]
    assert 1 < len(kept["test"]) < 20
    assert parts["train"].notes == ["no test part: one object of 5 is held out, by its content"]
    assert parts["train"].image_shape == (8, 8, 8)


def test_an_archive_is_the_same_set_as_its_folder(tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    with tarfile.open(tmp_path / "set.tar.xz", "w:xz") as archive:
        archive.add(root, "set")
    ours, theirs = Voxels(str(root)), Voxels(str(tmp_path / "set.tar.xz"))
    assert ours.digest() == theirs.digest()
    assert of_all(ours).equal(of_all(theirs))


def test_folders_named_train_and_test_are_the_splits(tmp_path: Path) -> None:
    root = str(folder(tmp_path / "set", ("train", "test")))
    assert [len(Voxels(root, split=split)) for split in ("train", "test")] == [40, 40]
    assert Voxels(root).notes == []


def test_one_class_alone(tmp_path: Path) -> None:
    root = str(folder(tmp_path / "set", ("train", "test")))
    jars = Voxels(root, only="jars")
    assert (len(jars), jars.class_names) == (20, ["jars"])
    assert int((of_all(jars) > 0).flatten(1).sum(1).min()) == 41
    assert Voxels(only="chair", size=80).class_names == ["chair"]
    with pytest.raises(UserError, match=r"--data.only jar: the classes are cups, jars.*jars"):
        Voxels(root, only="jar")


def test_files_that_are_no_solids_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    for content, said in (
        (np.zeros((8, 8)), "no cube of zeros and ones"),
        (np.full((8, 8, 8), 0.5), "no cube of zeros and ones"),
        (np.zeros((4, 4, 4)), "others are"),
    ):
        np.save(root / "cups" / "zz.npy", content)
        with pytest.raises(UserError, match=said):
            Voxels(str(root))
    (root / "cups" / "zz.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cups/zz.npy is no array"):
        Voxels(str(root))
    with pytest.raises(UserError, match=r"there are no \.npy files"):
        Voxels(str(tmp_path / "set" / "..") + "/empty" if (tmp_path / "empty").mkdir() else str(tmp_path / "empty"))


def of_all(source: Voxels) -> torch.Tensor:
    return source.read(np.arange(len(source)))["image"]
