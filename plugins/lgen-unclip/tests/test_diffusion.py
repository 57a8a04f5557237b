"""The diffusion process against its closed forms."""

from __future__ import annotations

import pytest
import torch
from lgen_unclip import diffusion

SCHEDULES = [diffusion.cosine(100), diffusion.linear(100), diffusion.cosine(1000), diffusion.linear(1000)]


@pytest.mark.parametrize("alpha_bar", SCHEDULES)
def test_a_schedule_begins_with_the_picture_and_ends_in_noise(alpha_bar: torch.Tensor) -> None:
    assert alpha_bar[0] == 1
    assert 0 < alpha_bar[-1] < 1e-4
    assert (alpha_bar.diff() < 0).all()


def test_the_linear_schedule_is_that_of_the_paper() -> None:
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    assert torch.allclose(diffusion.linear(1000)[1:], (1 - beta).cumprod(0))


def test_steps_of_the_process_add_up_to_the_closed_form() -> None:
    """x_t made step by step has the mean and the variance of q(x_t | x_0)."""
    alpha_bar = diffusion.cosine(50)
    chance = torch.Generator().manual_seed(0)
    x = torch.full((200_000,), 0.7, dtype=torch.float64)
    for t in range(1, 31):
        kept = alpha_bar[t] / alpha_bar[t - 1]
        x = kept.sqrt() * x + (1 - kept).sqrt() * torch.randn(x.shape, generator=chance, dtype=torch.float64)
    direct = diffusion.noised(torch.tensor(0.7), torch.randn(x.shape, generator=chance), alpha_bar[30])
    for found in (x, direct):
        assert float(found.mean()) == pytest.approx(0.7 * alpha_bar[30].sqrt().item(), abs=0.006)
        assert float(found.var()) == pytest.approx(1 - alpha_bar[30].item(), rel=0.01)


def test_the_posterior_is_bayes_rule() -> None:
    """q(x_s | x_t, x_0) from the product of two Gaussians in x_s: q(x_s | x_0) and q(x_t | x_s)."""
    a, before = (torch.tensor(v, dtype=torch.float64) for v in (0.3, 0.55))
    x0, x = torch.tensor(0.4, dtype=torch.float64), torch.tensor(-1.1, dtype=torch.float64)
    kept = a / before
    precision = 1 / (1 - before) + kept / (1 - kept)
    mean = (before.sqrt() * x0 / (1 - before) + kept.sqrt() * x / (1 - kept)) / precision
    found, variance = diffusion.posterior(x, x0, a, before)
    assert found.item() == pytest.approx(mean.item())
    assert variance.item() == pytest.approx(1 / precision.item())


def test_a_step_of_one_has_the_variance_of_ho_et_al() -> None:
    alpha_bar = diffusion.linear(1000)
    t = 400
    beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
    _, variance = diffusion.posterior(torch.zeros(()), torch.zeros(()), alpha_bar[t], alpha_bar[t - 1])
    assert variance.item() == pytest.approx(((1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta).item())


def test_velocity_and_start_are_each_others_inverse() -> None:
    x0, noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    for a in (torch.tensor(0.0), torch.tensor(0.4), torch.tensor(1.0)):
        x = diffusion.noised(x0, noise, a)
        assert torch.allclose(diffusion.start_of(x, diffusion.velocity(x0, noise, a), a), x0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 50, 80])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_perfect_denoiser_leads_back_to_the_picture(steps: int, sampler: diffusion.Sampler) -> None:
    chance = torch.Generator().manual_seed(2)
    x0, x = torch.randn(2, 4, 6, generator=chance)
    asked: list[int] = []

    def denoise(x_t: torch.Tensor, t: int) -> torch.Tensor:
        asked.append(t)
        return x0

    drawn = diffusion.sample(
        denoise, x, diffusion.cosine(50), steps, sampler, lambda t: torch.randn(x.shape, generator=chance)
    )
    assert torch.allclose(drawn, x0, atol=1e-5)
    assert len(asked) == min(steps, 50)
    assert asked[0] == 50


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_exact_denoiser_of_a_normal_distribution_draws_it(sampler: diffusion.Sampler) -> None:
    """For x_0 ~ N(m, s^2) the best guess E[x_0 | x_t] is known: samples have that mean and deviation again."""
    alpha_bar, m, s = diffusion.cosine(400), 0.5, 0.3
    chance = torch.Generator().manual_seed(3)

    def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
        a = alpha_bar[t]
        gain = a.sqrt() * s**2 / (a * s**2 + 1 - a)
        return m + gain * (x - a.sqrt() * m)

    x = torch.randn(20_000, generator=chance, dtype=torch.float64)
    drawn = diffusion.sample(
        denoise, x, alpha_bar, 400, sampler, lambda t: torch.randn(x.shape, generator=chance, dtype=torch.float64)
    )
    assert float(drawn.mean()) == pytest.approx(m, abs=0.01)
    assert float(drawn.std()) == pytest.approx(s, rel=0.03)
