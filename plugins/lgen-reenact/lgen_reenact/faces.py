"""People in frames as a data source: each frame to be made of its landmarks and of other frames of the person."""

from __future__ import annotations

import hashlib
from typing import get_args

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from lgen_reenact import face
from lgen_reenact.film import Film, Procedural, Recorded
from lightning_gen import noise
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError, nearest

_SHOTS = 0x5407  # names the hash that chooses by which frames a person is shown


class Faces(Source):
    """Frames of people, each with its landmarks and with other frames of the same person.

    Without `root`, procedural faces. A row is a frame to be made: `landmarks` is where it starts from, `shots` are
    `shots` other frames of the person with their landmarks, and the label is the person.

    Args:
        root: Folder or archive with a folder for each person: frames and a landmarks.csv.
        resolution: Side of the frames.
        split: Which part to read; the procedural train and test share no person.
        shots: Frames that a person is shown by.
        persons: Of the procedural faces, how many people.
        frames: Of the procedural faces, frames of each person.

    Raises:
        UserError: a person with too few frames, landmarks that are missing or are not the same number everywhere, and
            as `folder`.
    """

    views = ("landmarks", "image")
    context = ("shots",)
    paired = True
    notes: list[str]
    """What a user should know about how the set was read, as sentences."""

    def __init__(
        self,
        root: str = "",
        resolution: PositiveInt = 32,
        split: str = "train",
        shots: PositiveInt = 4,
        persons: PositiveInt = 400,
        frames: PositiveInt = 16,
    ):
        self.shots = shots
        self._film: Film
        if root:
            self._film = Recorded(root, resolution, split)
        else:
            if split not in get_args(face.Split):
                known = get_args(face.Split)
                raise UserError(f"--data.split {split}: {' or '.join(known)}{nearest(split, known)}")
            self._film = Procedural(resolution, split, persons, frames)  # type: ignore[arg-type]
        self.notes, self.split, self.title = self._film.notes, self._film.split, self._film.title
        self.class_names = self._film.names
        self.image_shape = (3, resolution, resolution)
        counts = self._film.counts
        if min(counts) <= shots:
            poorest = self.class_names[counts.index(min(counts))]
            raise UserError(
                f"--data.shots {shots}: {poorest} has {min(counts)} frames, and one more than the shots is needed"
            )
        # the first frame of everybody, then the second: rows in their order show many people soon
        person, frame = np.repeat(np.arange(len(counts)), counts), np.concatenate([np.arange(n) for n in counts])
        order = np.lexsort((person, frame))
        self._person, self._frame = person[order], frame[order]

    def __len__(self) -> int:
        return len(self._person)

    def read(self, indices: np.ndarray) -> Batch:
        """`image` and `landmarks` (B, 3, R, R), `shots` (B, shots, 6, R, R), frames before their landmarks, `label`."""
        rows = np.asarray(indices, dtype=np.int64)
        drawn = self._both(rows)
        shots = [self._both(self._others(row)) for row in rows.tolist()]
        return {
            "image": drawn[:, :3],
            "landmarks": drawn[:, 3:],
            "shots": torch.stack(shots),
            "label": torch.from_numpy(self._person[rows]),
        }

    def _both(self, rows: np.ndarray) -> Tensor:
        at = zip(self._person[rows].tolist(), self._frame[rows].tolist(), strict=True)
        return torch.from_numpy(np.stack([self._film.both(person, frame) for person, frame in at]))

    def _others(self, row: int) -> np.ndarray:
        """Which frames show the person of a row: always the same ones, chosen by the row."""
        others = np.flatnonzero(self._person == self._person[row])
        others = others[others != row]
        chosen = np.argsort(noise.chance(others, noise.mix(_SHOTS, row)), kind="stable")[: self.shots]
        return others[chosen]

    def digest(self) -> str:
        """Of the frames and their landmarks, and of how many show a person."""
        return hashlib.sha256(f"faces {self.shots} {self._film.digest()}".encode()).hexdigest()

    def class_counts(self) -> Tensor:
        """Frames of each person."""
        return torch.tensor(self._film.counts)
