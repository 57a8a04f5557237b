"""Suites: what their files say is checked before anything runs, and settings have an order of precedence."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_gen.benchmark import suite
from lightning_gen.errors import UserError

FINE = "tier: smoke\nabout: x\nentries: [{model: dcgan}]\n"


def test_an_entrys_own_settings_win_over_the_suites_and_its_budget_over_both() -> None:
    own = {"kimg": 5, "model.width": 8}
    entries = (
        suite.Entry("dcgan", "none"),
        suite.Entry("dcgan", "own", settings=own),
        suite.Entry("dcgan", "budget", kimg=2, settings=own),
    )
    plan = suite.Suite("small", "", "smoke", entries, settings={"kimg": 20, "model.width": 4}, kimg=10)
    found = [(row.settings.values["kimg"], row.settings.values["model"]["width"]) for row in suite.rows(plan)]
    assert found == [(10, 4), (5, 8), (2, 8)]


def test_settings_of_a_suite_keep_their_letters() -> None:
    kept = {"data.root": 'фото "1"/кот'}
    plan = suite.Suite("small", "", "smoke", (suite.Entry("dcgan"),), data="folder", settings=kept)
    (row,) = suite.rows(plan)
    assert row.settings.values["data"]["root"] == kept["data.root"]


@pytest.mark.parametrize("name", sorted(suite.available()))
def test_suites_of_the_repository_resolve(name: str) -> None:
    assert suite.rows(suite.load(name))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tier: smoke\nabout: x\n", "needs entries"),
        ("tier: smok\nabout: x\nentries: [{model: dcgan}]\n", "tier 'smok' is none of"),
        ("tier: smoke\nabout: x\nentrys: []\n", "did you mean 'entries'"),
        ("about: x\nentries: [{model: dcgan}]\n", "does not say 'tier'"),
        ("tier: smoke\nabout: x\nentries: [{model: dcgan}, {model: dcgan}]\n", "two entries are called 'dcgan'"),
        ("tier: smoke\nabout: x\nentries: [dcgan]\n", "entry 1"),
        ("tier: smoke\nabout: x\nentries: [{model: dcgam}]\n", "did you mean 'dcgan'"),
        ("tier: smoke\nabout: x\nentries: [{model: dcgan, settings: {model.lrr: 1}}]\n", "entry dcgan"),
        ("tier: smoke\nabout: x\nentries: 3\n", "small.yaml: entries: expected a list of models, got 3"),
        ("tier: smoke\nabout: x\nentries: {dcgan: 1}\n", "small.yaml: entries: expected a list of models"),
        ("tier: smoke\nabout: x\nentries: [{model: 3}]\n", "small.yaml, entry 1: model: expected a word, got 3"),
        (f"{FINE}seeds: 3\n", "small.yaml: seeds: expected a list of whole numbers, 0 or more, like [0, 1, 2], got 3"),
        (f"{FINE}seeds: []\n", "small.yaml: seeds: expected a list of whole numbers"),
        (f"{FINE}seeds: [0, one]\n", "small.yaml: seeds: expected a list of whole numbers"),
        (f"{FINE}settings: 3\n", "small.yaml: settings: expected settings like {model.width: 64}, got 3"),
        (f"{FINE}data: 5\n", "small.yaml: data: expected a word, got 5"),
        (f"{FINE}n: many\n", 'small.yaml: n: expected a whole number, 1 or more, got "many"'),
        (f"{FINE}n: 0\n", "small.yaml: n: expected a whole number, 1 or more, got 0"),
        (f"{FINE}kimg: -1\n", "small.yaml: kimg: expected a number, more than 0, got -1"),
        (f"{FINE}protocols: tiny\n", 'small.yaml: protocols: expected a list of words, got "tiny"'),
        (f"{FINE}metrics: [fidd]\n", "did you mean 'fid'"),
        (
            "tier: smoke\nabout: x\nentries: [{model: dcgan, name: w/o ema}]\n",
            'small.yaml, entry 1: name: expected a short word without /, for files are named after it, got "w/o ema"',
        ),
        (f'{FINE}name: ".."\n', "small.yaml: name: expected a short word without /"),
        (f'{FINE}name: "a\\nb"\n', "small.yaml: name: expected a short word without /"),
        (f"{FINE}name: {'ф' * 101}\n", "small.yaml: name: expected a short word without /"),
    ],
)
def test_a_wrong_suite_is_refused_before_anything_runs(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        suite.rows(suite.load(str(path)))
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2
