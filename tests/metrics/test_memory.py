"""Scores work on some rows at a time: the same numbers, and little more memory than the sets themselves."""

import os
import subprocess
import sys

import pytest
import torch

from lightning_gen.metrics import (
    checks,
    frechet_distance,
    inception,
    inception_score,
    kernel,
    kernel_distance,
    neighbours,
    prdc,
)


def scores(real: torch.Tensor, fake: torch.Tensor) -> dict[str, float]:
    score, distance = inception_score(fake, 3), kernel_distance(fake, real, 3, 50)
    return {
        "fid": frechet_distance(real, fake),
        **{f"is {name}": value for name, value in score.items()},
        **{f"kid {name}": value for name, value in distance.items()},
        **prdc(real, fake),
    }


@pytest.mark.parametrize("rows", [1, 7, 50, 64])
def test_parts_of_any_size_give_the_same_numbers(monkeypatch, rows):
    random = torch.Generator().manual_seed(0)
    real, fake = torch.randn(64, 5, generator=random), 1 + 0.8 * torch.randn(90, 5, generator=random)
    fake[:9] = real[:9]  # copies lie exactly on each other's spheres
    whole = scores(real, fake)
    assert 0 < whole["precision"] < 1
    assert 0 < whole["recall"] < 1
    monkeypatch.setattr(checks, "AT_ONCE", rows)
    monkeypatch.setattr(inception, "AT_ONCE", rows)
    monkeypatch.setattr(kernel, "_STRIP", rows)
    monkeypatch.setattr(neighbours, "_AT_ONCE", rows**2)
    assert scores(real, fake) == pytest.approx(whole, rel=1e-12)


def test_a_value_that_is_not_finite_is_found_wherever_it_is(monkeypatch):
    monkeypatch.setattr(checks, "AT_ONCE", 10)
    for value in (float("nan"), float("inf"), -float("inf")):
        for row in (0, 15, 29):
            rows = torch.zeros(30, 4)
            rows[row, 2] = value
            with pytest.raises(ValueError, match="not finite"):
                checks.as_rows(rows, "features")


# The peak of a process never falls: what a score of a few rows needs once and for all is in it before the large sets.
CODE = """
import resource, sys, torch
from lightning_gen.metrics import frechet_distance, inception_score, kernel_distance, prdc

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def score(real, fake):
    frechet_distance(real, fake)
    inception_score(fake, 1)
    kernel_distance(fake, real, 2, 1000)
    prdc(real, fake)

torch.set_num_threads(1)
real, fake = torch.randn(2, 8192, 256, generator=torch.Generator().manual_seed(0))
score(real[:2048], fake[:2048])
before = peak()
score(real, fake)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no module `resource`")
def test_no_score_copies_a_set_to_float64():
    # glibc otherwise keeps blocks of up to 32 MB to itself, more or fewer of them by chance
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 8192 * 256 * 8 / 2
