"""CIFAR-10, MNIST and Fashion-MNIST, from small files in their original formats: no network."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import datasets

from lightning_gen import scoring
from lightning_gen.cli import latents, listing
from lightning_gen.data.torchvision_sets import CIFAR10, MNIST, FashionMNIST
from lightning_gen.errors import UserError

random = np.random.default_rng(0)


def idx(path: Path, values: np.ndarray) -> None:
    """The format of the original files: two zeros, 8 for bytes, the number of sides, the sides, the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes() + values.tobytes())


@pytest.fixture(params=[MNIST, FashionMNIST])
def digits(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[type[MNIST], str, np.ndarray, np.ndarray]:
    images, labels = random.integers(0, 256, (12, 28, 28), np.uint8), (np.arange(12) * 7 % 10).astype(np.uint8)
    for part, rows in (("train", slice(0, 8)), ("t10k", slice(8, 12))):
        idx(tmp_path / request.param.__name__ / "raw" / f"{part}-images-idx3-ubyte", images[rows])
        idx(tmp_path / request.param.__name__ / "raw" / f"{part}-labels-idx1-ubyte", labels[rows])
    return request.param, str(tmp_path), images, labels


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, np.ndarray, np.ndarray]:
    """Six batches of three pictures, pickled as the original ones; torchvision's table has their checksums."""
    images, labels = random.integers(0, 256, (18, 3, 32, 32), np.uint8), np.arange(18) % 10
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    kinds = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    def write(name: str, content: dict) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    sums = []
    for i in range(6):
        name = f"data_batch_{i + 1}" if i < 5 else "test_batch"
        rows = slice(3 * i, 3 * i + 3)
        sums.append([name, write(name, {"data": images[rows].reshape(3, -1), "labels": labels[rows].tolist()})])
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", sums[5:])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": write("batches.meta", {"label_names": kinds})}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return str(tmp_path), images, labels


def test_photographs_are_read_as_they_are(photographs: tuple[str, np.ndarray, np.ndarray]):
    root, images, labels = photographs
    train, test = CIFAR10(root, download=False), CIFAR10(root, split="test", download=False)
    assert (len(train), len(test), train.image_shape, train.split, test.split) == (15, 3, (3, 32, 32), "train", "test")
    assert train.class_names[3] == "cat"
    rows = np.array([14, 0, 14])
    batch = train.read(rows)
    assert np.array_equal(batch["image"].numpy(), images[rows])
    assert batch["label"].tolist() == labels[rows].tolist()
    assert batch["image"].dtype == torch.uint8
    assert np.array_equal(test.read(np.arange(3))["image"].numpy(), images[15:])
    assert train.class_counts().tolist() == np.bincount(labels[:15], minlength=10).tolist()
    assert train.digest() != test.digest()
    assert train.digest() == CIFAR10(root, flip=True, download=False).digest()


def test_photographs_mirror_and_resize(photographs: tuple[str, np.ndarray, np.ndarray]):
    root, images, _ = photographs
    source = CIFAR10(root, resolution=8, flip=True, download=False)
    batch = source.read(np.arange(4))
    assert source.image_shape == (3, 8, 8)
    assert batch["image"].shape == (4, 3, 8, 8)
    blocks = images[:4].reshape(4, 3, 8, 4, 8, 4).mean((3, 5))
    assert np.abs(batch["image"].numpy() - blocks).max() < 60  # antialiased: near the mean of what a pixel covers
    assert batch["image"].float().std() < images.std() / 2
    changed = source.augment(batch, np.array([0.1, 0.9, 0.49, 0.5]))["image"]
    assert torch.equal(changed[[0, 2]], batch["image"][[0, 2]].flip(-1))
    assert torch.equal(changed[[1, 3]], batch["image"][[1, 3]])


def test_digits_are_padded_native_or_resized(digits: tuple[type[MNIST], str, np.ndarray, np.ndarray]):
    cls, root, images, labels = digits
    source = cls(root, download=False)
    assert (len(source), source.image_shape, source.num_classes) == (8, (1, 32, 32), 10)
    batch = source.read(np.arange(8))
    assert np.array_equal(batch["image"][:, 0, 2:30, 2:30].numpy(), images[:8])
    assert batch["image"].sum() == images[:8].sum()
    assert batch["label"].tolist() == labels[:8].tolist()
    native = cls(root, resolution=28, split="test", download=False)
    assert np.array_equal(native.read(np.arange(4))["image"][:, 0].numpy(), images[8:])
    assert cls(root, resolution=64, download=False).read(np.array([0]))["image"].shape == (1, 1, 64, 64)


def test_damaged_files_are_said_to_be(digits: tuple[type[MNIST], str, np.ndarray, np.ndarray]):
    cls, root, _, _ = digits
    file = Path(root) / cls.__name__ / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{cls.title}: the files in {root} are damaged \(.+\): remove them"):
        cls(root, download=False)


@pytest.mark.parametrize("cls", [CIFAR10, MNIST, FashionMNIST])
def test_without_the_files(tmp_path: Path, cls: type[CIFAR10]):
    root = tmp_path / "sets"
    with pytest.raises(
        UserError, match=rf"{cls.title} is not.*--data\.download is false\nput .* into {root}.*--data\.root"
    ) as said:
        cls(str(root), download=False)
    assert len(str(said.value).splitlines()) == 2


@pytest.mark.parametrize("cls", [CIFAR10, MNIST, FashionMNIST])
def test_without_a_network(tmp_path: Path, cls: type[CIFAR10], monkeypatch: pytest.MonkeyPatch):
    nowhere = "http://localhost:9"  # the discard port: refused at once, also where there is a network
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{nowhere}/cifar-10-python.tar.gz")
    for torchvisions in (datasets.MNIST, datasets.FashionMNIST):
        monkeypatch.setattr(torchvisions, "mirrors", [f"{nowhere}/"])
    root = tmp_path / "sets"
    with pytest.raises(
        UserError, match=rf"{cls.title} cannot be downloaded \(.*\)\nput .* into {root}.*--data\.root"
    ) as said:
        cls(str(root))
    assert len(str(said.value).splitlines()) == 2
    assert not root.exists()


@pytest.mark.parametrize("cls", [CIFAR10, MNIST, FashionMNIST])
def test_settings(tmp_path: Path, cls: type[CIFAR10]):
    with pytest.raises(UserError, match=r"--data\.resolution 3"):
        cls(str(tmp_path), resolution=3)
    with pytest.raises(UserError, match=r"--data\.split val: .* has train and test"):
        cls(str(tmp_path), split="val")
    known = listing.settings(cls)
    assert list(known) == ["root", "resolution", "split", "flip", "download"]
    assert all(about["help"] for about in known.values())


def test_importing_the_module_does_not_import_torchvision():
    code = "import sys, lightning_gen.data.torchvision_sets; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_archive_is_no_folder_of_the_set_and_the_way_to_read_it_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "cifar10.tar.xz"
    archive.touch()
    with pytest.raises(UserError) as refused:
        CIFAR10(str(archive))
    assert str(refused.value).splitlines() == [
        f"--data.root {archive} is a file, and CIFAR-10 is read from a folder",
        f"archives of images are read by --data folder --data.root {archive}",
    ]


def test_a_set_that_is_not_there_advises_no_option_that_the_verb_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LGEN_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://localhost:9/"])
    subject = SimpleNamespace(kind="image", image_shape=(1, 32, 32), run=None)
    with pytest.raises(UserError, match=r"\nput MNIST/raw.* into .*torchvision$"):
        scoring.reference_of(subject, "mnist", None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"\nput MNIST/raw.* into .*torchvision$"):
        latents.pixels("mnist", subject)  # type: ignore[arg-type]
