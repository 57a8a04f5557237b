"""Extractors of strangers: no score, passport or cached reference of theirs is taken for another's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lightning_gen import images, registry
from lightning_gen.cli import main
from lightning_gen.data.shapes import Shapes
from lightning_gen.errors import UserError

from .conftest import FINE, pip_install, put_on_path, wheel

EXTRACTOR = '''
from lightning_gen.metrics.extractors import Features, Tiny


class Scaled(Tiny):
    """Tiny, and its features times a number."""

    name = "Scaled"

    def extract(self, images):
        features, logits = super().extract(255 - images)
        return Features(features * 1, logits)
'''
NAMELESS = EXTRACTOR.replace('    name = "Scaled"\n', "")
SMALL = ("--model.width", "4", "--data.size", "20", "--kimg", "0.02", "--logger", "none", "--metrics.samples", "20")


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LGEN_CACHE", str(tmp_path / "cache"))
    for folder, split in (("pictures", "test"), ("others", "train")):
        for i, picture in enumerate(Shapes(split=split, size=20).read(np.arange(20))["image"]):
            images.save_png(picture, Path(folder) / f"{i:03d}.png")


def lgen(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="lgen")


def score(extractor: str, *plugin: str) -> dict[str, Any]:
    wanted = ("--reference", "others", "--metrics", "fid", "--json")
    done = lgen("evaluate", "pictures", *wanted, "--extractor", extractor, *plugin)
    assert done.exit_code == 0, done.output + repr(done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "verb",
    [
        ("evaluate", "pictures", "--reference", "others", "--extractor", "Scaled"),
        ("fit", "--model", "gan", *SMALL, "--metrics.extractor", "Scaled", "--out", "run"),
    ],
    ids=["evaluate", "fit"],
)
def test_one_that_inherits_the_name_of_another_is_refused_and_leaves_nothing(verb: tuple[str, ...]) -> None:
    Path("mine.py").write_text(NAMELESS)
    done = lgen(*verb, "--plugin", "mine.py:Scaled")
    assert done.exit_code == 2, done.output + repr(done.exception)
    (said,) = (line for line in done.stderr.splitlines() if "preparing" not in line)
    assert "extractor 'Scaled' of mine.py: its class says name = 'tiny', and scores go by that: make it 'Sc" in said
    assert not Path("run").exists()
    assert not Path("cache/references").exists()


def test_one_of_a_distribution_under_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = wheel("lgen-strange", FINE, {"extractors": "average=Mean"}, tmp_path / "wheels")
    pip_install([strange], tmp_path / "site")
    put_on_path(tmp_path / "site", monkeypatch)
    with pytest.raises(UserError, match=r"'average' of lgen-strange: its class says name = 'mean'.* make it 'average'"):
        registry.load("average", "extractors")
    del sys.modules["lgen_strange"]


def test_edited_code_meets_no_old_cache_and_has_another_passport() -> None:
    Path("mine.py").write_text(EXTRACTOR)
    before = score("Scaled", "--plugin", "mine.py:Scaled")
    Path("mine.py").write_text(EXTRACTOR.replace("* 1,", "* 10,"))
    after = score("Scaled", "--plugin", "mine.py:Scaled")
    # both sides are seen by the new code: a Fréchet distance is of the features squared
    assert after["scores"]["fid/Scaled"] == pytest.approx(100 * before["scores"]["fid/Scaled"], rel=1e-3)
    assert before["passport"]["digest"] != after["passport"]["digest"]
    assert before["passport"]["extractor_code"] != after["passport"]["extractor_code"]


def test_the_packages_own_score_the_same_beside_them() -> None:
    before = score("tiny")
    Path("mine.py").write_text(EXTRACTOR)
    score("Scaled", "--plugin", "mine.py:Scaled")
    assert score("tiny") == before
    assert "extractor_code" not in before["passport"]


@pytest.mark.parametrize("name", registry.names("extractors"))
def test_the_code_of_the_packages_own_stands_in_no_passport(name: str) -> None:
    assert registry.code_of(registry.load(name, "extractors"), name, "extractors") == ""
