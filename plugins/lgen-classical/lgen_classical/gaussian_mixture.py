"""On GANs and GMMs: Richardson & Weiss, NeurIPS 2018, https://arxiv.org/abs/1805.12462"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import sklearn.mixture
import torch
from jsonargparse.typing import PositiveFloat, PositiveInt
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from lgen_classical.one_pass import OnePass


class GaussianMixture(OnePass):
    """Gaussians with full covariance over the principal components of whole images.

    Differences from the paper: one space of principal components for all Gaussians, and no noise outside of it, where
    the paper gives each Gaussian factors of its own and fits all together.

    Args:
        image_shape: (channels, height, width).
        images: Images that it is fitted to.
        components: Gaussians.
        dims: Principal components.
        ridge: Added to the variances, which keeps a Gaussian of few images from collapsing.
    """

    paper = "Richardson & Weiss 2018, On GANs and GMMs, https://arxiv.org/abs/1805.12462"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"components": 200, "images": 50000}, "quick": {}}
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 50, "data.batch_size": 100},
        "quick": {"kimg": 4, "data.batch_size": 100},
    }
    checked: ClassVar[dict[str, Any]] = {"image_shape": (3, 8, 8), "images": 10, "components": 2, "dims": 3}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        images: PositiveInt = 4000,
        components: PositiveInt = 48,
        dims: PositiveInt = 64,
        ridge: PositiveFloat = 1e-3,
    ):
        super().__init__(image_shape, images)
        self.save_hyperparameters(logger=False)
        self.components, self.dims, self.ridge = components, dims, ridge
        self.register_buffer("mean", torch.zeros(self.pixels))
        self.register_buffer("basis", torch.zeros(dims, self.pixels))
        self.register_buffer("weights", torch.zeros(components))
        self.register_buffer("centres", torch.zeros(components, dims))
        self.register_buffer("factors", torch.zeros(components, dims, dims))

    def fit(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """Principal components, then expectation maximisation from k-means."""
        rows = pictures.reshape(len(pictures), -1)
        space = PCA(min(self.dims, *rows.shape), random_state=self.seed).fit(rows)
        mixture = sklearn.mixture.GaussianMixture(
            min(self.components, len(rows)), reg_covar=self.ridge, random_state=self.seed
        )
        with warnings.catch_warnings():
            # a likelihood that still rises after a hundred rounds is good enough for a baseline
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(space.transform(rows))
        self.keep(mean=space.mean_, basis=space.components_, weights=mixture.weights_, centres=mixture.means_)
        self.keep(factors=np.linalg.cholesky(mixture.covariances_))

    def draw(self, chance: np.random.Generator, label: int) -> np.ndarray:
        weights = self.kept("weights")
        which = chance.choice(self.components, p=weights / weights.sum())
        factors = self.factors[which].double().cpu().numpy()
        where = self.centres[which].double().cpu().numpy() + factors @ chance.standard_normal(self.dims)
        image: np.ndarray = (self.kept("mean") + where @ self.kept("basis")).reshape(self.image_shape)
        return image
