"""`lgen doctor`: what it finds, and what it makes of it."""

from __future__ import annotations

import functools
import sys

import pytest
from click.testing import CliRunner

from lightning_gen import speed
from lightning_gen.cli import main
from lightning_gen.metrics import selftest


def test_this_machine_computes_the_scores_that_it_should() -> None:
    done = CliRunner().invoke(main, ["doctor", "--metrics"])
    assert done.exit_code == 0, done.output
    assert "metrics: fid/tiny" in done.output


def test_a_score_that_is_off_is_a_problem_that_names_both_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(selftest.EXPECTED, "fid/tiny", 0.3)
    done = CliRunner().invoke(main, ["doctor", "--metrics"])
    assert done.exit_code == 1
    assert "PROBLEM  fid/tiny of the fixed set is 0.29" in done.output
    assert "should be 0.3" in done.output


def test_the_speed_of_each_default_is_shown_and_the_one_that_a_fit_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "BATCH", 2)
    monkeypatch.setattr(speed, "measure", functools.partial(speed.measure, rounds=1, steps=1))
    done = CliRunner().invoke(main, ["doctor", "--speed"])
    assert done.exit_code == 0, done.output
    rows = [line for line in done.output.splitlines() if line.endswith(" times") or "<- `lgen fit`" in line]
    assert len(rows) == 4
    assert sum("<- `lgen fit`" in row for row in rows) == 1


def test_a_torchvision_that_is_made_for_another_torch_is_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 1, done.output
    (said,) = [line for line in done.output.splitlines() if line.startswith("PROBLEM")]
    assert said.startswith("PROBLEM  torchvision cannot be imported (ModuleNotFoundError: ")
    assert said.endswith("at once, from one index")
