"""Naive Bayes: Maron, JACM 1961, https://doi.org/10.1145/321075.321084; fitted by scikit-learn's CategoricalNB."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from sklearn.naive_bayes import CategoricalNB

from lgen_classical.one_pass import OnePass


class NaiveBayes(OnePass):
    """Every pixel by itself, given the class: a histogram of grey levels for each channel of each place.

    The floor of any leaderboard: what a model scores that knows the classes and nothing of how pixels go together.

    Args:
        image_shape: (channels, height, width).
        num_classes: Classes of the data; 0 fits one histogram to all images.
        images: Images that it is fitted to.
        levels: Into how many grey levels the range of a channel is cut.
    """

    paper = "Maron 1961, Automatic Indexing: An Experimental Inquiry, https://doi.org/10.1145/321075.321084"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"levels": 256}, "quick": {}}
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"kimg": 4, "data.batch_size": 100}}
    checked: ClassVar[dict[str, Any]] = {"image_shape": (3, 8, 8), "images": 10, "levels": 4}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: NonNegativeInt = 0,
        images: PositiveInt = 4000,
        levels: PositiveInt = 16,
    ):
        super().__init__(image_shape, images)
        self.save_hyperparameters(logger=False)
        self.num_classes = num_classes
        self.levels = levels
        self.register_buffer("chances", torch.zeros(max(1, num_classes), self.pixels, levels))

    def fit(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """Laplace's estimate: every level was seen once more than it was."""
        cut = ((pictures.reshape(len(pictures), -1) + 1) / 2 * self.levels).astype(int).clip(0, self.levels - 1)
        bayes = CategoricalNB(alpha=1.0, min_categories=self.levels)
        bayes.partial_fit(cut, labels, classes=np.arange(max(1, self.num_classes)))
        self.keep(chances=np.exp(np.stack(bayes.feature_log_prob_, axis=1)))

    def draw(self, chance: np.random.Generator, label: int) -> np.ndarray:
        reached = self.chances[label].double().cpu().numpy().cumsum(axis=1)
        level = (reached < chance.random((self.pixels, 1)) * reached[:, -1:]).sum(axis=1)
        image: np.ndarray = ((level + 0.5) / self.levels * 2 - 1).reshape(self.image_shape)
        return image
