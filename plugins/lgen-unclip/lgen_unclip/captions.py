"""Pictures with sentences about them: those of `shapes`, which are true by construction, and a folder with a CSV."""

from __future__ import annotations

import csv
import hashlib
import io
import posixpath
from typing import Any, get_args

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from lgen_unclip import words
from lightning_gen.data import archive, folder
from lightning_gen.data.shapes import CLASS_NAMES, COLOURS, Shapes, Split, Variation
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError, nearest

PROMPTS = 96
"""Captions that a model keeps, to draw from where nobody asks: of `shapes` twice each of the 48 labels."""


class Captions(Source):
    """Pictures with captions: `shapes` ("a small red circle on navy"), or a folder with captions.csv.

    A CSV has the columns `file` (beginning at its own folder) and `caption`. A row of the set is one caption with its
    picture, so a picture that five captions describe is there five times.

    Args:
        root: Folder or archive of pictures, with one or several CSVs in it; without it, `shapes`.
        resolution: Side of the images.
        channels: 3 for colour, 1 for grey.
        split: Which part to read, where there are several.
        words: Most words of the vocabulary, by their frequency.
        seldom: A word that stands fewer times in all captions together is not learnt.
        size: Of `shapes`, number of images before any are left out.
        variation: Of `shapes`, gentle or full.
        leave_out: Of `shapes`, what is never shown: "[red circle, blue star]". Shape and colour occur in other pairs.

    Raises:
        UserError: no CSV, a picture without a caption or a caption without a picture, and as `folder` and `shapes`.
    """

    captioned = True
    notes: list[str]
    """What a user should know about how the set was read, as sentences."""

    def __init__(
        self,
        root: str = "",
        resolution: int = 32,
        channels: int = 3,
        split: str = "train",
        words: PositiveInt = 4000,
        seldom: PositiveInt = 1,
        size: int = 10000,
        variation: Variation = "gentle",
        leave_out: tuple[str, ...] = (),
    ):
        self.notes = []
        self._words, self._seldom = words, seldom
        self._pictures: Source
        if root:
            if leave_out:
                raise UserError("--data.leave_out names pairs of shape and colour: it needs the captions of shapes")
            pictures = folder.Folder(root, resolution, channels, split)
            # Folder tells how many files are no images; the CSVs among them are used here
            self.notes = [note for note in pictures.notes if ".csv" not in note]
            self._rows, self._captions = _described(root, split)
            self._pictures, self.title, self.split = pictures, f"{pictures.title} with captions", pictures.split
            self.class_names: list[str] = []
            first = np.linspace(0, len(self._captions) - 1, PROMPTS).astype(np.int64)
        else:
            if split not in get_args(Split):
                raise UserError(
                    f"--data.split {split}: {' or '.join(get_args(Split))}{nearest(split, get_args(Split))}"
                )
            shapes = Shapes(resolution, channels, size, variation, split)  # type: ignore[arg-type]
            everything = np.arange(size)
            factors = shapes.factors(everything)
            self._rows = np.flatnonzero(~np.isin(_labels(factors), _modes(leave_out)))
            if not len(self._rows):
                raise UserError("--data.leave_out leaves nothing over")
            said = shapes.captions(self._rows)
            self._pictures, self._captions, self.split = shapes, said, split
            self.title = f"{shapes.title} with captions" + (f", without {', '.join(leave_out)}" if leave_out else "")
            self.class_names = list(CLASS_NAMES)
            first = np.arange(PROMPTS)  # `shapes` shows every label once in 48 rows
        self.image_shape = self._pictures.image_shape
        self.prompts = first[first < len(self._rows)]

    @property
    def decodable(self) -> bool:
        """Whether `lightning_gen.data.decoder` can judge images like these."""
        return isinstance(self._pictures, Shapes) and self._pictures.decodable

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: np.ndarray) -> Batch:
        """Images, their captions, and the labels of `shapes`."""
        return {**self._pictures.read(self._rows[indices]), "caption": [self._captions[i] for i in indices]}

    def digest(self) -> str:
        """Of the pictures, which of them are shown, and what is said of them."""
        told = hashlib.sha256(self._pictures.digest().encode())
        told.update(self._rows.tobytes())
        told.update("\n".join(self._captions).encode())
        return told.hexdigest()

    def class_counts(self) -> Tensor:
        """Rows of each label; none where the pictures have no labels."""
        if not self.class_names:
            return super().class_counts()
        assert isinstance(self._pictures, Shapes)
        labels = torch.from_numpy(_labels(self._pictures.factors(self._rows)))
        return torch.bincount(labels, minlength=len(self.class_names))

    def model_settings(self) -> dict[str, Any]:
        """The vocabulary, and captions to draw where nobody asks, with their labels."""
        read = self.read(self.prompts)
        return {
            "vocabulary": " ".join(words.frequent(self._captions, self._words, self._seldom)),
            "prompts": read["caption"],
            "prompt_labels": read["label"].tolist() if self.class_names else [],
        }


def _labels(factors: dict[str, np.ndarray]) -> np.ndarray:
    return factors["shape"] * len(COLOURS) + factors["colour"]


def _modes(named: tuple[str, ...]) -> list[int]:
    """Labels of pairs such as "red circle"."""
    for name in named:
        if name not in CLASS_NAMES:
            raise UserError(f"--data.leave_out {name}: a colour and a shape{nearest(name, CLASS_NAMES)}")
    return [CLASS_NAMES.index(name) for name in named]


def _described(root: str, split: str) -> tuple[np.ndarray, list[str]]:
    """For each caption of a split the row of its picture, as `folder` numbers them, and the caption."""
    files = archive.open_root(root)
    there = files.paths()
    row = {path: i for i, path in enumerate(folder.arrange(there, root, split, is_archive=files.is_archive).paths)}
    tables = [path for path in there if path.lower().endswith(".csv")]
    if not tables:
        raise UserError(f"--data.root {root}: no CSV of captions in it (columns file, caption)")
    found: list[tuple[int, str]] = []
    known = set(there)
    for table, load in files.read(tables):
        for number, line in enumerate(csv.DictReader(io.StringIO(load().decode("utf-8-sig"))), 2):
            if not line.get("file") or not line.get("caption"):
                raise UserError(f"--data.root {root}: {table}, line {number}: it needs the columns file and caption")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(table), line["file"]))
            if path not in known:
                raise UserError(f"--data.root {root}: {table}, line {number}: there is no picture {line['file']}")
            if path in row:  # pictures of other splits have their captions too
                found.append((row[path], line["caption"].strip()))
    described = {at for at, _ in found}
    if silent := [path for path, at in row.items() if at not in described]:
        raise UserError(f"--data.root {root}: no caption of {silent[0]} ({len(silent)} pictures have none)")
    found.sort(key=lambda one: one[0])
    return np.array([at for at, _ in found]), [caption for _, caption in found]
