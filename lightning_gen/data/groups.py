"""Pictures of several groups, such as ages, between which a model translates without pairs."""

from __future__ import annotations

import hashlib

import numpy as np
from torch import Tensor

from lightning_gen.data import folder
from lightning_gen.data.shapes import COLOURS, Factors, Shapes
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError


class Groups(Source):
    """Pictures with the group that each is of; a folder for each group, named after it.

    Without `root`: `shapes`, the colours being the groups, so that what must stay is shape, place and ground.

    Args:
        root: Folder or archive with a folder for each group, as 51-60.
        resolution: Width and height to which pictures are brought.
        channels: 3 for colour, 1 for grey.
        split: Which part to read where there are folders named train, val or test.
        flip: Mirror half of the pictures, each time anew, when training.

    Raises:
        UserError: fewer than two groups, and as `folder`.
    """

    notes: list[str]
    """What a user should know about how the set was read, as sentences."""

    def __init__(
        self, root: str = "", resolution: int = 32, channels: int = 3, split: str = "train", flip: bool = False
    ):
        self._flip = flip
        self._set: Source
        if root:
            self._set = folder.Folder(root, resolution, channels, split)
            self.class_names = self._set.class_names
            self.title, self.split = self._set.title, self._set.split
            self.notes = self._set.notes
            if len(self.class_names) < 2:
                raise UserError(
                    f"--data.root {root}: groups are folders of pictures, two or more, each named after its group"
                )
        else:
            self._set = Shapes(resolution, channels, split=split)  # type: ignore[arg-type]  # it checks the name
            self.class_names = list(COLOURS)
            self.title, self.split, self.notes = "shapes by colour", split, []
        self.image_shape = self._set.image_shape

    @property
    def decodable(self) -> bool:
        """Whether the pictures are shapes that the decoder reads."""
        return getattr(self._set, "decodable", False)

    def __len__(self) -> int:
        return len(self._set)

    def read(self, indices: np.ndarray) -> Batch:
        """`image` and `label`, the number of the group."""
        batch = self._set.read(indices)
        return batch | ({"label": batch["label"] % len(COLOURS)} if isinstance(self._set, Shapes) else {})

    def augment(self, batch: Batch, chance: np.ndarray) -> Batch:
        """With `flip`, the pictures whose chance is under a half are mirrored."""
        return {**batch, "image": folder.mirrored(batch["image"], chance)} if self._flip else batch

    def factors(self, indices: np.ndarray) -> Factors:
        """What the shapes of these rows are; there are none of files."""
        assert isinstance(self._set, Shapes)
        return self._set.factors(indices)

    def digest(self) -> str:
        """Of the set, and that its labels are groups."""
        return hashlib.sha256(f"groups\0{self._set.digest()}".encode()).hexdigest()

    def class_counts(self) -> Tensor:
        """Pictures of each group."""
        counts = self._set.class_counts()
        return counts.view(-1, len(COLOURS)).sum(0) if isinstance(self._set, Shapes) else counts
