"""Scores of large sets need little more memory than the sets."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("resource")  # there is none on Windows

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


def test_no_score_copies_a_set_to_float64():
    # glibc otherwise keeps blocks of up to 32 MB to itself, more or fewer of them by chance
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 8192 * 256 * 8 / 2
