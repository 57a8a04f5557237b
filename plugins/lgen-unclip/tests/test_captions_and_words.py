"""Captions are true, and words are numbers that mean the same in every run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from lgen_unclip.captions import PROMPTS, Captions
from lgen_unclip.words import END, PAD, UNKNOWN, Vocabulary, frequent
from PIL import Image

from lightning_gen.data.shapes import CLASS_NAMES
from lightning_gen.errors import UserError
from lightning_gen.testing import check_data


def folder_of(root: Path, table: str, pictures: int = 3) -> str:
    for split in ("train", "test"):
        (root / split / "images").mkdir(parents=True)
        for i in range(pictures):
            Image.new("RGB", (16, 16), (80 * i, 0, 0)).save(root / split / "images" / f"{split}{i}.png")
        (root / split / "captions.csv").write_text(table.replace("SPLIT", split))
    return str(root)


TABLE = """file,caption
images/SPLIT1.png,"A dark, red one."
images/SPLIT0.png,All of it is black
images/SPLIT2.png,A SPLIT picture
images/SPLIT0.png,It's black
"""


def test_the_source_keeps_the_contract(tmp_path: Path) -> None:
    check_data("captions", size=200)
    check_data("captions", root=folder_of(tmp_path / "set", TABLE), resolution=8)


def test_every_caption_names_the_shape_and_colour_of_its_label() -> None:
    batch = Captions(size=200).read(np.arange(200))
    for caption, label in zip(batch["caption"], batch["label"].tolist(), strict=True):
        assert f" {CLASS_NAMES[label]} on " in caption


def test_what_is_left_out_is_in_no_row_and_no_prompt() -> None:
    source = Captions(size=480, leave_out=("red circle", "blue star"))
    assert len(source) == 460
    said = [*source.read(np.arange(len(source)))["caption"], *source.model_settings()["prompts"]]
    assert not [caption for caption in said if "red circle" in caption or "blue star" in caption]
    assert source.class_counts()[CLASS_NAMES.index("red circle")] == 0
    assert source.digest() != Captions(size=480).digest()


def test_prompts_of_shapes_hold_each_label_twice() -> None:
    told = Captions(size=200).model_settings()
    assert len(told["prompts"]) == PROMPTS
    assert np.bincount(told["prompt_labels"]).tolist() == [2] * 48


def test_a_row_of_a_folder_is_one_caption_with_its_picture(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", TABLE)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "set")
    for where in (root, packed):
        batch = Captions(root=where, resolution=8).read(np.arange(4))
        assert batch["caption"] == ["All of it is black", "It's black", "A dark, red one.", "A train picture"]
        assert batch["image"][:, 0, 0, 0].tolist() == [0, 0, 80, 160]
    assert Captions(root=root, resolution=8, split="test").read(np.array([3]))["caption"] == ["A test picture"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,caption\nimages/SPLIT0.png,one\n", "no caption of train/images/train1.png .2 pictures have none"),
        (TABLE + "images/lost.png,gone\n", "line 6: there is no picture images/lost.png"),
        ("name,text\nimages/SPLIT0.png,one\n", "line 2: it needs the columns file and caption"),
    ],
)
def test_a_table_that_does_not_fit_the_pictures_is_told(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Captions(root=folder_of(tmp_path / "set", table), resolution=8)


def test_settings_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data.leave_out red cirle: .*did you mean 'red circle'"):
        Captions(leave_out=("red cirle",))
    with pytest.raises(UserError, match="needs the captions of shapes"):
        Captions(root=folder_of(tmp_path / "set", TABLE), leave_out=("red circle",))


def test_words_are_numbered_by_frequency_then_by_name() -> None:
    assert frequent(["b a b", "c, A!"], most=2) == ["a", "b"]
    assert frequent(["b a b", "c, A!"], most=9, at_least=2) == ["a", "b"]


def test_a_sentence_ends_once_and_is_cut_to_the_context() -> None:
    words = Vocabulary(["a", "red", "circle"], context=4)
    assert words.encode(["a Red circle", "a", "a blue, a red"]).tolist() == [
        [3, 4, 5, END],
        [3, END, PAD, PAD],
        [3, UNKNOWN, 3, END],
    ]


def test_a_word_that_was_not_learnt_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="not learnt the word 'circel'; did you mean 'circle'"):
        Vocabulary(["red", "circle"], 8).require(["red circel"])
