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
def test_the_critic_widens_the_gap_that_the_generator_narrows(real: list[float], fake: list[float]) -> None:
    """Arjovsky et al. 2017, algorithm 1: the critic ascends mean(real) - mean(fake), the generator mean(fake)."""
    r, f = torch.tensor(real), torch.tensor(fake)
    assert losses.wasserstein_d(r, f).item() == pytest.approx(mean(fake) - mean(real), rel=1e-4, abs=1e-4)
    assert losses.wasserstein_g(f).item() == pytest.approx(-mean(fake), rel=1e-4, abs=1e-4)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@given(logits, logits)
def test_the_players_of_the_original_game_want_the_opposite(real: list[float], fake: list[float]) -> None:
    r, f = torch.tensor(real).double(), torch.tensor(fake).double()
    alone = losses.minimax_d(r, torch.tensor([-1e9]))  # nothing is left of the fakes' share
    assert (losses.minimax_d(r, f) - alone + losses.minimax_g(f)).item() == pytest.approx(0, abs=1e-5)


@given(logits, logits)
def test_least_squares_is_equation_9_of_its_paper(real: list[float], fake: list[float]) -> None:
    r, f = torch.tensor(real), torch.tensor(fake)
    expected = mean([(x - 1) ** 2 for x in real]) / 2 + mean([x**2 for x in fake]) / 2
    assert losses.least_squares_d(r, f).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert losses.least_squares_g(f).item() == pytest.approx(mean([(x - 1) ** 2 for x in fake]) / 2, rel=1e-5, abs=1e-6)


@given(logits, logits)
def test_hinge_is_equation_16_of_its_paper(real: list[float], fake: list[float]) -> None:
    expected = mean([max(0, 1 - x) for x in real]) + mean([max(0, 1 + x) for x in fake])
    assert losses.hinge_d(torch.tensor(real), torch.tensor(fake)).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert losses.hinge_g(torch.tensor(fake)).item() == pytest.approx(-mean(fake), rel=1e-5, abs=1e-5)


@given(st.lists(st.tuples(logit, logit), min_size=1, max_size=8))
def test_relativistic_losses_compare_pairs(pairs: list[tuple[float, float]]) -> None:
    real, fake = (torch.tensor(side).double() for side in zip(*pairs, strict=True))
    expected = -mean([math.log(sigmoid(r - f)) for r, f in pairs])
    assert losses.relativistic_d(real, fake).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert losses.relativistic_g(fake, real).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(logits, logits, logit, logit)
def test_lecam_pulls_each_side_to_the_others_mean(real: list[float], fake: list[float], a_r: float, a_f: float) -> None:
    found = losses.lecam(torch.tensor(real), torch.tensor(fake), torch.tensor(a_r), torch.tensor(a_f))
    expected = mean([(x - a_f) ** 2 for x in real]) + mean([(x - a_r) ** 2 for x in fake])
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_r1_of_a_quadratic_is_known() -> None:
    images = torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    logits = 1.5 * images.square().flatten(1).sum(dim=1)  # its gradient is 3 x
    found = losses.zero_centred_penalty(logits, images)
    assert found.item() == pytest.approx(4.5 * images.square().flatten(1).sum(dim=1).mean().item(), rel=1e-5)


def test_dragan_looks_in_the_neighbourhood_of_the_data() -> None:
    real = torch.randn(64, 3, 4, 4)
    near = losses.perturbed(real, torch.rand_like(real))
    gap = near - real
    assert gap.min() >= 0
    assert gap.max() <= real.std() / 2
    assert gap.max() > 0.9 * real.std() / 2


def test_clipping_bounds_every_weight_and_moves_none_inside() -> None:
    critic = torch.nn.Linear(50, 50)
    before = critic.weight.detach().clone()
    losses.clip_weights(critic, 0.0625)
    assert max(p.abs().max().item() for p in critic.parameters()) <= 0.0625
    inside = before.abs() <= 0.0625
    assert torch.equal(critic.weight[inside], before[inside])


def test_the_path_length_of_a_linear_generator_is_the_norm_of_its_jacobian() -> None:
    torch.manual_seed(0)
    jacobian = torch.randn(3 * 8 * 8, 7, dtype=torch.float64)
    styles = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    images = (styles @ jacobian.T).view(5, 3, 8, 8)
    expected = (noise.flatten(1) @ jacobian / 8).norm(dim=1)
    assert torch.allclose(losses.path_lengths(images, styles, noise).double(), expected, rtol=1e-5)
    broadcast = styles[:, None].expand(-1, 4, -1)  # one style for each of four layers, of which the last one counts
    images = (broadcast[:, 3] @ jacobian.T).view(5, 3, 8, 8)
    per_layer = losses.path_lengths(images, broadcast, noise).double()
    assert torch.allclose(per_layer, expected / 2, rtol=1e-5)  # the mean of squares over four layers, three of them 0


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


@pytest.mark.parametrize("loss", [losses.minimax_d, losses.wasserstein_d, losses.least_squares_d, losses.hinge_d])
def test_losses_of_half_precision_logits_are_float32(loss) -> None:
    assert loss(torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32
