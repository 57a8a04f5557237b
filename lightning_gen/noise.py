"""Randomness as a function of what it is for, never as a state that has to be saved.

`normal` and `uniform` give row i of the stream that a seed names; `mix` folds several integers into one seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """One well-spread 63-bit seed from several integers (splitmix64 finaliser, Steele et al. 2014)."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state + (value & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def normal(n: int, *shape: int, seed: int, start: int = 0) -> Tensor:
    """Rows `start .. start+n` of the standard normal stream of `seed`, (n, *shape) float32 on the CPU."""
    return _rows(torch.randn, n, shape, seed, start)


def uniform(n: int, *shape: int, seed: int, start: int = 0) -> Tensor:
    """Rows `start .. start+n` of the uniform [0, 1) stream of `seed`, (n, *shape) float32 on the CPU."""
    return _rows(torch.rand, n, shape, seed, start)


def chance(positions: np.ndarray, seed: int) -> np.ndarray:
    """One uniform number in [0, 1) for each position, (B,) float64: the same splitmix64, vectorised."""
    state = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(mix(seed))
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _rows(draw: Callable[..., Tensor], n: int, shape: tuple[int, ...], seed: int, start: int) -> Tensor:
    generator = torch.Generator()
    rows = torch.empty(n, *shape)
    for row in range(n):
        generator.manual_seed(mix(seed, start + row))
        rows[row] = draw(shape, generator=generator)
    return rows
