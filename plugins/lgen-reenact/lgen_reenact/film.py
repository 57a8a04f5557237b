"""Frames of people with their landmarks: drawn, or read from folders."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import posixpath
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lgen_reenact import face, landmarks
from lightning_gen import files, images
from lightning_gen.data import archive, folder
from lightning_gen.errors import UserError

TABLE = "landmarks.csv"
"""Lies beside the frames of each person: a line for each frame, `file` and then x and y of each landmark in pixels."""


class Film(ABC):
    """Frames of several people."""

    resolution: int
    split: str
    title: str
    notes: list[str]
    """What a user should know about how it was read, as sentences."""
    names: list[str]
    """Of the people."""
    counts: list[int]
    """Frames of each person."""

    @abstractmethod
    def both(self, person: int, frame: int) -> np.ndarray:
        """A frame, and below it in the channels its landmarks as the networks look at them: (6, R, R) uint8."""

    @abstractmethod
    def points(self, person: int, frame: int) -> np.ndarray:
        """The landmarks of a frame, (P, 2), x and y in [-1, 1]."""

    @abstractmethod
    def digest(self) -> str:
        """Of the frames and their landmarks."""

    def some(self, person: int, frames: list[int]) -> Tensor:
        """`both` of some frames of a person, (K, 6, R, R) uint8."""
        return torch.from_numpy(np.stack([self.both(person, frame) for frame in frames]))


class Procedural(Film):
    """Frames that `lgen_reenact.face` draws; each is drawn once and kept."""

    split: face.Split

    def __init__(self, resolution: int, split: face.Split, persons: int, frames: int):
        self.split, self.title, self.notes = split, "procedural faces", []
        self.names = [f"person {i}" for i in range(persons)]
        self.counts = [frames] * persons
        self.resolution, self._frames = resolution, frames
        self._kept: dict[tuple[int, int], np.ndarray] = {}

    def both(self, person: int, frame: int) -> np.ndarray:
        if (person, frame) not in self._kept:
            who, how = self._shown(person, frame)
            sketch = landmarks.draw(face.landmarks(who, how), self.resolution)
            self._kept[person, frame] = np.concatenate([face.draw(who, how, self.resolution), sketch])
        return self._kept[person, frame]

    def points(self, person: int, frame: int) -> np.ndarray:
        return face.landmarks(*self._shown(person, frame))

    def _shown(self, person: int, frame: int) -> tuple[face.Person, face.Pose]:
        return face.person(self.split, person), face.pose(self.split, person, frame)

    def digest(self) -> str:
        told = [face.VERSION, self.resolution, self.split, len(self.names), self._frames]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class Recorded(Film):
    """Frames in folders, one for each person."""

    def __init__(self, root: str, resolution: int, split: str):
        pictures = folder.Folder(root, resolution, 3, split)
        self._pictures, self.resolution = pictures, resolution
        # Folder tells how many files are no images; the CSVs among them are used here
        self.notes = [note for note in pictures.notes if ".csv" not in note]
        self.split, self.title = pictures.split, f"{pictures.title} with landmarks"
        self.names = pictures.class_names or [pictures.title]  # frames in no folder of their own: one person
        self.counts = pictures.class_counts().tolist() or [len(pictures)]
        self._first = np.concatenate([[0], np.cumsum(self.counts)])
        self._points = _read_points(root, split)

    def both(self, person: int, frame: int) -> np.ndarray:
        pixels = self._pictures.read(self._first[[person]] + frame)["image"][0].numpy()
        return np.concatenate([pixels, landmarks.draw(self.points(person, frame), self.resolution)])

    def points(self, person: int, frame: int) -> np.ndarray:
        points: np.ndarray = self._points[self._first[person] + frame]
        return points

    def digest(self) -> str:
        told = hashlib.sha256(self._pictures.digest().encode())
        told.update(self._points.tobytes())
        return told.hexdigest()


def _read_points(root: str, split: str) -> np.ndarray:
    """The landmarks of every row as `folder` numbers them, (rows, P, 2) in [-1, 1] of the picture as it is read."""
    source = archive.open_root(root)
    there = source.paths()
    rows = folder.arrange(there, root, split, is_archive=source.is_archive).paths
    tables = [path for path in there if posixpath.basename(path) == TABLE]
    pixels: dict[str, np.ndarray] = {}
    for table, load in source.read(tables):
        for number, line in enumerate(csv.reader(io.StringIO(load().decode("utf-8-sig")))):
            if number and line:
                pixels[posixpath.join(posixpath.dirname(table), line[0])] = _pairs(line[1:], root, table, number + 1)
    if without := [path for path in rows if path not in pixels]:
        raise UserError(
            f"--data.root {root}: {without[0]} has no landmarks ({len(without)} frames have none): a {TABLE} beside it "
            "holds a line for each frame, its name and then x and y of each landmark in pixels"
        )
    count = len(pixels[rows[0]])
    for path in rows:
        if len(pixels[path]) != count:
            raise UserError(f"--data.root {root}: {path} has {len(pixels[path])} landmarks, {rows[0]} has {count}")
    place = {path: row for row, path in enumerate(rows)}
    points = np.empty((len(rows), count, 2))
    for path, load in source.read(rows):
        with Image.open(io.BytesIO(load())) as picture:  # the header says how large it is
            size = np.array(picture.size)
        # `folder` takes the square in the middle
        points[place[path]] = 2 * (pixels[path] - (size - size.min()) // 2) / size.min() - 1
    return points


def _pairs(numbers: list[str], root: str, table: str, line: int) -> np.ndarray:
    try:
        points = np.array([float(number) for number in numbers])
    except ValueError:
        points = np.array([np.nan])
    if len(points) < 2 or len(points) % 2 or not np.isfinite(points).all():
        raise UserError(f"--data.root {root}: {table}, line {line}: after the file come x and y of each landmark")
    return points.reshape(-1, 2)


def write(film: Film, out: Path) -> None:
    """Frames and landmarks as folders, one for each person, as `Recorded` reads them."""
    for person, name in enumerate(film.names):
        home = out / name.replace(" ", "-")
        home.mkdir(parents=True)
        header = [axis + str(i) for i in range(len(film.points(person, 0))) for axis in "xy"]
        lines = [",".join(["file", *header])]
        for frame in range(film.counts[person]):
            images.save_png(torch.from_numpy(film.both(person, frame)[:3]), home / f"{frame:04d}.png")
            pixels = (film.points(person, frame) + 1) * film.resolution / 2
            lines.append(",".join([f"{frame:04d}.png", *(f"{value:.3f}" for value in pixels.flatten())]))
        files.write(home / TABLE, "\n".join(lines) + "\n")
