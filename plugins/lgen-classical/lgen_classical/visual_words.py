"""Latent Dirichlet allocation: Blei, Ng & Jordan, JMLR 2003; visual words: Fei-Fei & Perona, CVPR 2005,
https://doi.org/10.1109/CVPR.2005.16"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from scipy.sparse import csr_matrix
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import LatentDirichletAllocation

from lgen_classical.one_pass import OnePass
from lightning_gen.errors import UserError


class VisualWords(OnePass):
    """An image as a document whose words are patches, and patches as mixtures of topics.

    Differences from the papers: words are whole small patches, and with `placed` the same patch at another place is
    another word. Without it the model is theirs and knows nothing of where a patch belongs.

    Args:
        image_shape: (channels, height, width); both sides multiples of `patch`.
        images: Images that it is fitted to.
        patch: Side of a patch.
        words: Patches in the vocabulary.
        topics: Topics.
        rounds: Of variational Bayes.
        placed: Whether words have places.
    """

    paper = (
        "Fei-Fei & Perona 2005, A Bayesian Hierarchical Model for Natural Scenes, https://doi.org/10.1109/CVPR.2005.16"
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"words": 174, "topics": 40, "placed": False},
        "quick": {},
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"kimg": 2, "data.batch_size": 100}}
    checked: ClassVar[dict[str, Any]] = {
        "image_shape": (3, 8, 8), "images": 10, "words": 4, "topics": 2, "rounds": 2
    }  # fmt: skip

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        images: PositiveInt = 2000,
        patch: PositiveInt = 4,
        words: PositiveInt = 128,
        topics: PositiveInt = 64,
        rounds: PositiveInt = 10,
        placed: bool = True,
    ):
        super().__init__(image_shape, images)
        self.save_hyperparameters(logger=False)
        channels, height, breadth = image_shape
        if height % patch or breadth % patch:
            raise UserError(f"visual-words cuts images into patches of {patch}, which {height} x {breadth} cannot be")
        self.patch, self.words, self.topics, self.rounds, self.placed = patch, words, topics, rounds, placed
        self.places = height // patch * (breadth // patch)
        self.register_buffer("patches", torch.zeros(words, channels * patch * patch))
        self.register_buffer("usage", torch.zeros(topics, self.places if placed else 1, words))

    def fit(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """k-means for the vocabulary, variational Bayes for the topics."""
        cut = self._cut(pictures)
        means = MiniBatchKMeans(min(self.words, len(cut)), random_state=self.seed, n_init=1).fit(cut)
        said = means.predict(cut).reshape(len(pictures), self.places)
        if self.placed:
            said = said + self.words * np.arange(self.places)
        size = self.words * (self.places if self.placed else 1)
        ends = np.arange(0, said.size + 1, self.places)
        counts = csr_matrix((np.ones(said.size), said.ravel(), ends), (len(pictures), size))
        model = LatentDirichletAllocation(self.topics, max_iter=self.rounds, random_state=self.seed).fit(counts)
        self.keep(patches=means.cluster_centers_, usage=model.components_.reshape(self.topics, -1, self.words))

    def draw(self, chance: np.random.Generator, label: int) -> np.ndarray:
        channels, height, breadth = self.image_shape
        usage = self.kept("usage").cumsum(axis=2)
        mixture = chance.dirichlet(np.full(self.topics, 1 / self.topics))
        topic = chance.choice(self.topics, self.places, p=mixture)
        reached = usage[topic, np.arange(self.places) if self.placed else 0]
        word = (reached < chance.random((self.places, 1)) * reached[:, -1:]).sum(axis=1)
        side = self.patch
        cut = self.kept("patches")[word].reshape(height // side, breadth // side, channels, side, side)
        return cut.transpose(2, 0, 3, 1, 4).reshape(self.image_shape)

    def _cut(self, pictures: np.ndarray) -> np.ndarray:
        """(N * places, channels * patch * patch), place by place."""
        channels, height, breadth = self.image_shape
        side = self.patch
        grid = pictures.reshape(len(pictures), channels, height // side, side, breadth // side, side)
        return grid.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels * side * side)
