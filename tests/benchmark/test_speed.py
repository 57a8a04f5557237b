"""The paired measurement of benchmarks/speed still measures two equal steps; how long they take is no test's matter."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks/speed"


@pytest.mark.parametrize("case", ["dcgan quick", "progan quick"])
def test_our_step_and_the_bare_loops_give_the_same_weights(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    step = importlib.import_module("step")
    result = step.measure(case, rounds=1, block=1, clock="cpu", tiny=True, warm_up=0)  # it compares before it times
    assert result.pairs == 1
