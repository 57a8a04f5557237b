"""Clock, noise, averages: everything that makes a run a function of (seed, images seen)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_gen import ema, noise
from lightning_gen.clock import Clock


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50), st.integers(1, 3000))
def test_the_clock_passes_each_multiple_exactly_once(steps: list[int], every: int) -> None:
    clock, times = Clock(), 0
    for images in steps:
        clock.advance(images)
        times += clock.passed(every / 1000)
        assert clock.passed(0) is False
    crossed = len({sum(steps[: i + 1]) // every for i in range(len(steps))} - {0})
    assert times == crossed


def test_a_falling_rate_is_one_then_linear_then_zero() -> None:
    clock = Clock()
    assert clock.falling(0.5) == 1.0  # nobody said when the run ends
    clock.budget = 100
    rates = []
    for _ in range(12):
        rates.append(clock.falling(0.5))
        clock.advance(10)
    assert rates[:6] == [1.0] * 6
    assert rates[6:] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0])
    assert clock.falling(0.0) == 1.0


@given(st.integers(0, 2**40), st.integers(0, 100_000), st.integers(1, 40))
def test_row_i_of_a_stream_does_not_depend_on_what_was_drawn_with_it(seed: int, start: int, n: int) -> None:
    together = noise.normal(n, 3, seed=seed, start=start)
    alone = torch.cat([noise.normal(1, 3, seed=seed, start=start + i) for i in range(n)])
    assert torch.equal(together, alone)


def test_streams_are_normal_and_uniform_and_leave_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    normal, uniform = noise.normal(4000, 8, seed=1), noise.uniform(4000, 8, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert abs(uniform.mean() - 0.5) < 0.01
    assert 0 <= uniform.min() <= uniform.max() < 1
    neighbours = torch.corrcoef(torch.stack([normal[:-1].flatten(), normal[1:].flatten()]))[0, 1]
    assert abs(neighbours) < 0.02


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=4))
def test_mixed_seeds_fit_what_torch_and_numpy_take(values: list[int]) -> None:
    seed = noise.mix(*values)
    assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)


def test_mixing_tells_order_and_number_of_values_apart() -> None:
    assert len({noise.mix(1, 2), noise.mix(2, 1), noise.mix(1), noise.mix(1, 2, 0)}) == 4


def test_chance_is_uniform_and_a_function_of_the_position() -> None:
    positions = np.arange(100_000)
    drawn = noise.chance(positions, 5)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.01
    assert np.array_equal(drawn[77:99], noise.chance(positions[77:99], 5))
    assert not np.array_equal(drawn, noise.chance(positions, 6))


@pytest.mark.parametrize("batch", [10, 50, 250])
def test_the_average_has_the_same_half_life_at_every_batch_size(batch: int) -> None:
    network, seen = nn.Linear(1, 1, bias=False), 10**7
    average = ema.averaged_copy(network)
    nn.init.zeros_(average.weight)
    nn.init.ones_(network.weight)
    follower = ema.Follower(average, network)
    for _ in range(1000 // batch):
        follower.follow(ema.decay(batch, seen, halflife_kimg=1.0))
    assert average.weight.item() == pytest.approx(0.5, abs=1e-5)


def test_an_early_average_forgets_the_initial_weights() -> None:
    assert ema.decay(64, 64, halflife_kimg=10.0) < 1e-5


def test_the_average_follows_shared_weights_once_and_buffers_that_were_assigned_anew() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    network[1].weight = network[0].weight
    average = ema.averaged_copy(network)
    follower = ema.Follower(average, network)
    nn.init.zeros_(average[0].weight)
    nn.init.ones_(network[0].weight)
    network[2].running_mean = torch.full((2,), 7.0)
    follower.follow(0.75)
    assert torch.allclose(average[1].weight, torch.full((2, 2), 0.25))
    assert torch.equal(average[2].running_mean, torch.full((2,), 7.0))


def test_the_average_copies_buffers_and_takes_no_gradient() -> None:
    network = nn.BatchNorm1d(3)
    average = ema.averaged_copy(network)
    network(torch.randn(16, 3) + 5)
    ema.Follower(average, network).follow(0.9)
    assert torch.equal(average.running_mean, network.running_mean)
    assert not any(p.requires_grad for p in average.parameters())
