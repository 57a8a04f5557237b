"""`lgen doctor`: what it finds, and what it makes of it."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

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


def test_a_set_of_images_is_described_with_its_sizes_and_every_image_that_cannot_be_read(tmp_path: Path) -> None:
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 40 if i else 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    for i in (2, 5):
        (tmp_path / f"{i}.png").write_bytes((tmp_path / f"{i}.png").read_bytes()[:300])
    done = CliRunner().invoke(main, ["doctor", "--data", str(tmp_path)])
    assert done.exit_code == 1, done.output
    assert f"{tmp_path}: 4 images of 40x20, 30x20 pixels, no classes" in done.output
    assert "2 unreadable images skipped: 2.png (" in done.output
    assert ", 5.png (" in done.output
    assert "PROBLEM  " + f"{tmp_path}: a run stops at an unreadable image; --data.on_error skip" in done.output
    done = CliRunner().invoke(main, ["doctor", "--data", str(tmp_path / "nothing")])
    assert f"PROBLEM  {tmp_path / 'nothing'}: there is no such folder or archive" in done.output
