"""Each model keeps the contract, and finds again what it was made to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_gen import registry
from lightning_gen.testing import check_model

MODELS = ("naive-bayes", "gaussian-mixture", "row-hmm", "visual-words")


@pytest.mark.parametrize("name", MODELS)
def test_the_model_keeps_the_contract(name: str) -> None:
    check_model(name)


def fitted(name: str, pictures: np.ndarray, labels: np.ndarray | None = None, **settings: object) -> torch.nn.Module:
    model = registry.load(name)(image_shape=pictures.shape[1:], images=len(pictures), **settings)
    model.fit(pictures, np.zeros(len(pictures), int) if labels is None else labels)
    model.fitted.fill_(True)
    return model


def two_kinds(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Dark images with a bright left half, and bright ones with a dark left half; their class."""
    labels = np.arange(n) % 2
    pictures = np.where(labels == 1, 0.8, -0.8)[:, None, None, None] * np.ones((n, 1, 8, 8))
    pictures[..., :4] *= -1
    return pictures + np.random.default_rng(0).normal(0, 0.02, pictures.shape), labels


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gaussian-mixture", {"components": 2, "dims": 3}),
        ("row-hmm", {"states": 2}),
    ],
)
def test_samples_are_of_both_kinds_and_of_no_third(name: str, settings: dict[str, int]) -> None:
    pictures, _ = two_kinds()
    drawn = fitted(name, pictures, **settings).sample(64)  # type: ignore[operator]
    halves = drawn[..., :4].mean((1, 2, 3)), drawn[..., 4:].mean((1, 2, 3))
    assert ((halves[0] > 0.6) ^ (halves[0] < -0.6)).all()
    assert torch.allclose(halves[0], -halves[1], atol=0.15)
    assert 0.2 < (halves[0] > 0).float().mean() < 0.8


def test_naive_bayes_draws_the_class_that_it_is_asked_for() -> None:
    pictures, labels = two_kinds()
    model = fitted("naive-bayes", pictures, labels, num_classes=2)
    drawn = model.sample(40, condition={"label": torch.arange(40) % 2})  # type: ignore[operator]
    right = drawn[..., 4:].mean((1, 2, 3)) > 0
    assert torch.equal(right, torch.arange(40) % 2 == 1)


def test_what_is_fitted_is_the_numbers_of_the_data() -> None:
    pictures, _ = two_kinds()
    model = fitted("gaussian-mixture", pictures, components=2, dims=3)
    assert model.kept("mean") == pytest.approx(pictures.mean(0).ravel(), abs=1e-6)  # type: ignore[operator]
    assert model.kept("weights") == pytest.approx([0.5, 0.5], abs=1e-6)  # type: ignore[operator]
    chain = fitted("row-hmm", pictures, states=2)
    assert chain.kept("moves") == pytest.approx(np.eye(2), abs=1e-6)  # type: ignore[operator]


def test_each_topic_is_one_kind_of_image() -> None:
    pictures, _ = two_kinds()
    topics = fitted("visual-words", pictures, words=2, topics=2)
    share = topics.kept("usage") / topics.kept("usage").sum(axis=2, keepdims=True)  # type: ignore[operator]
    left, right = share[:, 0, 0], share[:, 1, 0]  # of the first word, in the upper row of patches
    assert np.abs(left - right).min() > 0.9
    assert np.abs(left[0] - left[1]) > 0.9
    assert topics.kept("patches").mean(1) == pytest.approx(topics.kept("patches")[:, 0], abs=0.05)  # type: ignore[operator]


def test_a_patch_size_that_does_not_fit_is_told() -> None:
    from lightning_gen.errors import UserError

    with pytest.raises(UserError, match="cuts images into patches of 3, which 32 x 32 cannot be"):
        registry.load("visual-words")(patch=3)
