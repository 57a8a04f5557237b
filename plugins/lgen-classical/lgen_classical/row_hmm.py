"""A tutorial on hidden Markov models: Rabiner, Proc. IEEE 1989, https://doi.org/10.1109/5.18626; by hmmlearn."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from hmmlearn.hmm import GaussianHMM
from jsonargparse.typing import PositiveInt
from sklearn.cluster import MiniBatchKMeans

from lgen_classical.one_pass import OnePass


class RowHMM(OnePass):
    """An image as a sequence of rows, from the top: each row is a Gaussian of the hidden state that it is drawn in.

    Args:
        image_shape: (channels, height, width).
        images: Images that it is fitted to.
        states: Hidden states.
        rounds: Of Baum and Welch's algorithm.
    """

    paper = "Rabiner 1989, A Tutorial on Hidden Markov Models, https://doi.org/10.1109/5.18626"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"states": 128, "rounds": 50}, "quick": {}}
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"kimg": 1, "data.batch_size": 100}}
    checked: ClassVar[dict[str, Any]] = {"image_shape": (3, 8, 8), "images": 10, "states": 2, "rounds": 2}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        images: PositiveInt = 1000,
        states: PositiveInt = 48,
        rounds: PositiveInt = 5,
    ):
        super().__init__(image_shape, images)
        self.save_hyperparameters(logger=False)
        self.states, self.rounds = states, rounds
        channels, _, breadth = image_shape
        self.register_buffer("start", torch.zeros(states))
        self.register_buffer("moves", torch.zeros(states, states))
        self.register_buffer("centres", torch.zeros(states, channels * breadth))
        self.register_buffer("deviations", torch.zeros(states, channels * breadth))

    def fit(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """Baum and Welch's algorithm, from k-means over batches of rows (hmmlearn's own takes longer than all else)."""
        rows = pictures.transpose(0, 2, 1, 3).reshape(len(pictures) * pictures.shape[2], -1)
        chain = GaussianHMM(
            min(self.states, len(rows)), n_iter=self.rounds, tol=0.0, min_covar=1e-4, random_state=self.seed,
            init_params="stc",
        )  # fmt: skip
        means = MiniBatchKMeans(chain.n_components, random_state=self.seed, n_init=1).fit(rows)
        chain.means_ = means.cluster_centers_
        chain.fit(rows, lengths=[pictures.shape[2]] * len(pictures))
        variances = np.diagonal(chain.covars_, axis1=1, axis2=2)
        self.keep(start=chain.startprob_, moves=chain.transmat_, centres=chain.means_, deviations=np.sqrt(variances))

    def draw(self, chance: np.random.Generator, label: int) -> np.ndarray:
        channels, height, breadth = self.image_shape
        centres, deviations = self.kept("centres"), self.kept("deviations")
        moves, likely = self.kept("moves").cumsum(axis=1), self.kept("start").cumsum()
        rows = []
        for _ in range(height):
            state = min(int(np.searchsorted(likely, chance.random() * likely[-1])), self.states - 1)
            rows.append(centres[state] + deviations[state] * chance.standard_normal(channels * breadth))
            likely = moves[state]
        return np.stack(rows).reshape(height, channels, breadth).transpose(1, 0, 2)
