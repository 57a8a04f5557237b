"""Stacked MNIST: rows that spell their labels, the same for everybody, and modes that are counted rightly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lightning_gen.data.folder import Folder
from lightning_gen.data.stacked_mnist import StackedMNIST
from lightning_gen.errors import UserError
from lightning_gen.metrics import digits


@pytest.fixture
def plain_digits(tmp_path: Path) -> Path:
    """Three "digits" of each kind, all of one grey that says which it is: 20 times the digit."""
    for digit in range(10):
        for number in range(3):
            path = tmp_path / "digits" / "train" / str(digit) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28), 20 * digit).save(path)
    return tmp_path / "digits"


def test_the_colours_of_a_row_spell_its_label(plain_digits: Path) -> None:
    source = StackedMNIST(str(plain_digits), size=500)
    rows = source.read(np.arange(500))
    assert rows["image"].shape == (500, 3, 32, 32)
    shown = (rows["image"][:, :, 16, 16].double() / 20).round().long()
    assert torch.equal(shown @ torch.tensor([100, 10, 1]), rows["label"])
    assert source.class_names[307] == "307"
    assert torch.equal(source.class_counts(), torch.bincount(rows["label"], minlength=1000))


def test_classes_are_counted_whatever_the_order_of_the_digits(
    plain_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's digits are sorted, torchvision's are not."""
    order = np.random.default_rng(0).permutation(30)
    read = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, rows: read(self, order[rows]))
    source = StackedMNIST(str(plain_digits), size=500)
    labels = source.read(np.arange(500))["label"]
    assert torch.equal(source.class_counts(), torch.bincount(labels, minlength=1000))


def test_a_row_is_the_same_however_many_there_are(plain_digits: Path) -> None:
    few, many = StackedMNIST(str(plain_digits), size=50), StackedMNIST(str(plain_digits), size=5000)
    assert torch.equal(few.read(np.array([7, 3]))["image"], many.read(np.array([7, 3]))["image"])
    assert few.digest() != many.digest()


def test_fewer_than_ten_kinds_of_digits_are_refused(tmp_path: Path) -> None:
    for digit in range(2):
        (tmp_path / str(digit)).mkdir()
        Image.new("L", (28, 28)).save(tmp_path / str(digit) / "a.png")
    with pytest.raises(UserError, match="ten folders of digits are needed, not 2"):
        StackedMNIST(str(tmp_path))


def test_digits_are_known_by_the_names_of_their_folders_alone(plain_digits: Path) -> None:
    for digit, name in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]):
        (plain_digits / "train" / str(digit)).rename(plain_digits / "train" / name)
    with pytest.raises(UserError, match="ten folders of digits are named 0 to 9, not eight"):
        StackedMNIST(str(plain_digits))


def test_modes_and_their_divergence_have_their_closed_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    even = torch.ones(1000)

    def said(numbers: Tensor) -> dict[str, float]:
        monkeypatch.setattr(digits, "numbers", lambda images: numbers)
        return digits.coverage(torch.zeros(len(numbers), 3, 32, 32, dtype=torch.uint8), even)

    assert said(torch.arange(1000)) == {"modes_covered": 1000, "mode_kl": pytest.approx(0, abs=1e-9)}
    assert said(torch.full((64,), 5)) == {"modes_covered": 1, "mode_kl": pytest.approx(math.log(1000))}
    assert said(torch.arange(64) % 10) == {"modes_covered": 10, "mode_kl": pytest.approx(math.log(100), abs=0.02)}


def test_the_reader_of_digits_is_that_of_the_package_and_takes_any_size() -> None:
    strokes = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    strokes[:, :, 10:54, 30:35] = 255  # an upright stroke is a one
    assert digits.numbers(strokes).tolist() == [111, 111]
    assert digits.numbers(strokes[:, :, ::2, ::2]).tolist() == [111, 111]
