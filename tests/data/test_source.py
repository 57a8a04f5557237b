"""What the base of all data sources does for those that say no more than they must."""

from __future__ import annotations

import numpy as np
import torch

from lightning_gen.data.source import Batch, Source


class _Thirds(Source):
    split = "train"

    def __init__(self, size: int, classes: int):
        self.image_shape, self.class_names, self.size = (1, 1, 1), [str(i) for i in range(classes)], size

    def __len__(self) -> int:
        return self.size

    def read(self, indices: np.ndarray) -> Batch:
        image = torch.zeros(len(indices), *self.image_shape, dtype=torch.uint8)
        return {"image": image, "label": torch.from_numpy(indices % 3 // 2)} if self.class_names else {"image": image}

    def digest(self) -> str:
        return f"thirds {self.size}"


def test_labels_that_nobody_counted_are_counted() -> None:
    # frequencies of classes that add up to nothing would be no numbers, and every sample be drawn with the last label
    assert _Thirds(3000, classes=3).class_counts().tolist() == [2000, 1000, 0]


def test_images_without_labels_are_not_read_for_them() -> None:
    assert _Thirds(3000, classes=0).class_counts().tolist() == []
