"""Losses against their formulas, penalties against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_gen import losses

logit = st.floats(-50, 50)
logits = st.lists(logit, min_size=1, max_size=8)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@given(logits, logits)
def test_minimax_is_equation_1_of_the_paper(real: list[float], fake: list[float]) -> None:
    # 1 - D would round to 0 far out, where the loss must stay finite: the formula is checked where floats can hold it
    expected = -sum(math.log(sigmoid(r)) for r in real) / len(real) - sum(math.log(sigmoid(-f)) for f in fake) / len(
        fake
    )
    found = losses.minimax_d(torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64))
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(logits)
def test_non_saturating_is_minus_log_d(fake: list[float]) -> None:
    expected = -sum(math.log(sigmoid(f)) for f in fake) / len(fake)
    assert losses.non_saturating_g(torch.tensor(fake)).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(logits, logits)
def test_the_critic_and_the_generator_play_for_the_same_stake(real: list[float], fake: list[float]) -> None:
    r, f = torch.tensor(real), torch.tensor(fake)
    gap = losses.wasserstein_d(r, f) + losses.wasserstein_g(f)
    assert gap.item() == pytest.approx(-sum(real) / len(real), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 3.0])
def test_the_gradient_penalty_of_a_linear_critic_is_known(slope: float) -> None:
    direction = torch.randn(3 * 4 * 4)
    direction *= slope / direction.norm()
    real, fake = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    penalty = losses.gradient_penalty(lambda x: x.flatten(1) @ direction, real, fake, torch.rand(5))
    assert penalty.item() == pytest.approx((slope - 1) ** 2, abs=1e-5)


def test_the_gradient_penalty_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    critic = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Softplus(), torch.nn.Linear(16, 1)).double()
    real, fake, mix = torch.randn(4, 6).double(), torch.randn(4, 6).double(), torch.rand(4).double()
    between = mix[:, None] * real + (1 - mix[:, None]) * fake
    steps = 1e-5 * torch.eye(6).double()
    slopes = torch.stack([(critic(between + s) - critic(between - s)).squeeze(1) / 2e-5 for s in steps], dim=1)
    expected = (slopes.norm(dim=1) - 1).square().mean()
    assert losses.gradient_penalty(critic, real, fake, mix).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_gradient_penalty_trains_the_critic_and_not_the_generator() -> None:
    critic = torch.nn.Linear(6, 1)
    fake = torch.randn(4, 6, requires_grad=True)
    losses.gradient_penalty(critic, torch.randn(4, 6), fake, torch.rand(4)).backward()
    assert critic.weight.grad is not None
    assert fake.grad is None


def test_drift_is_the_mean_square_of_the_real_logits() -> None:
    assert losses.drift(torch.tensor([1.0, -3.0])).item() == 5.0


@pytest.mark.parametrize("loss", [losses.minimax_d, losses.wasserstein_d])
def test_losses_of_half_precision_logits_are_float32(loss) -> None:
    assert loss(torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32
