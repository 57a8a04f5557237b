"""Sixteen distributions, most of them bad, in one environment: each harms nothing but itself."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lightning_gen import registry
from lightning_gen.cli import doctor, main
from lightning_gen.errors import UserError
from lightning_gen.plugin import survey
from lightning_gen.plugin.probe import probe

from .conftest import FINE, SHOP, pip_install, put_on_path, wheel

TINY = ("--model.width", "2", "--data.size", "20", "--data.resolution", "8", "--data.batch_size", "10", "--kimg",
        "0.02", "--logger", "none", "--metrics.every_kimg", "0")  # fmt: skip

REASONS = {
    "lgen-usurper": "the name belongs to lightning-gen, and lgen-usurper claims it: rename the part",
    "lgen-future": "made for version 2 of the plugin API, this is version 1: install a matching release",
    "lgen-twin-one": "the name is claimed by lgen-twin-one and lgen-twin-two: uninstall one of them",
    "lgen-twin-two": "the name is claimed by lgen-twin-one and lgen-twin-two: uninstall one of them",
    "lgen-oddname": "a name is made of letters, digits, - and _",
}
"""What is known against a distribution before anything is imported."""


def lgen(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="lgen")


def mistake(*arguments: str) -> str:
    done = lgen(*arguments)
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert len(done.stderr.splitlines()) <= 2
    return done.stderr


def checked(distribution: str, *options: str) -> tuple[int, dict[str, Any]]:
    done = lgen("plugin", "check", distribution, "--json", *options)
    return done.exit_code, json.loads(done.stdout)


def imported() -> set[str]:
    return {name for name in sys.modules if name.startswith("lgen_")}


def test_listing_shows_all_of_them_with_their_states_and_imports_none(shop: Path) -> None:
    rows = json.loads(lgen("plugin", "list", "--json").stdout)
    assert {row["distribution"] for row in rows} == set(SHOP)
    assert set(rows[0]) == {"plugin", "kind", "distribution", "version", "state", "reason"}
    states = {row["distribution"]: (row["state"], row["reason"]) for row in rows}
    for distribution, reason in REASONS.items():
        state, said = states[distribution]
        assert state == "refused"
        assert said.startswith(reason)
    lacking = "it needs a-library-nobody-has>=2, which is not installed"
    assert states["lgen-lacking"] == ("broken", lacking)
    assert {row["kind"] for row in rows if row["distribution"] == "lgen-fine"} == set(registry.KINDS.values())
    table = lgen("plugin", "list").stdout.splitlines()
    assert table[0].split() == ["plugin", "kind", "distribution", "version", "state", "reason"]
    assert len(table) == 1 + len(rows)
    assert "progan" in lgen("models").stdout
    assert not imported()


def test_another_model_trains_beside_them_and_imports_none(shop: Path, tmp_path: Path) -> None:
    done = lgen("fit", "--model", "gan", *TINY, "--out", str(tmp_path / "run"))
    assert done.exit_code == 0, done.output
    assert lgen("sample", str(tmp_path / "run"), "--n", "1", "--grid", str(tmp_path / "x.png")).exit_code == 0
    assert not imported()


def test_the_model_whose_name_is_claimed_works_and_says_who_claims_it(shop: Path) -> None:
    done = lgen("fit", "--model", "progan", "--print-config")
    assert done.exit_code == 0, done.output
    assert registry.load("progan").__name__ == "ProGAN"
    from lightning_gen import settings

    (note, *_) = settings.resolve(model="progan").notes
    assert note.startswith("progan is lightning-gen's; that of lgen-usurper is refused: ")


def test_parts_of_all_five_kinds_work_in_one_run(shop: Path, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    parts = ("--model", "fine", "--data", "stripes", "--callback", "quiet", "--quiet.loudness", "1")
    scores = ("--metrics.names", "[fid,brightness]", "--metrics.extractor", "mean", "--metrics.samples", "8")
    done = lgen("fit", *parts, *scores, "--data.batch_size", "10", "--kimg", "0.04", "--logger", "none", "--out", run)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert {"brightness", "fid/mean"} <= set(done.stdout.split())
    passport = json.loads((tmp_path / "run" / "passport.json").read_text())
    assert passport["libraries"]["lgen-fine"] == "1.0"
    assert passport["extractor_code"] == "lgen-fine 1.0"


def test_a_constructor_that_raises_is_one_line_and_leaves_nothing(shop: Path, tmp_path: Path) -> None:
    said = mistake("fit", "--model", "raises", "--logger", "none", "--out", str(tmp_path / "run"))
    assert "model 'raises' of lgen-raises 1.0 cannot be constructed: ZeroDivisionError: no reason" in said
    assert "cannot be constructed" in mistake("models", "raises")
    assert not (tmp_path / "run").exists()


def test_images_of_the_wrong_shape_are_told_before_any_training(shop: Path, tmp_path: Path) -> None:
    small = ("--data.size", "20", "--data.resolution", "8", "--data.batch_size", "10", "--kimg", "0.02")
    said = mistake("fit", "--model", "misshapen", *small, "--logger", "none", "--out", str(tmp_path / "run"))
    assert "the model misshapen draws images (64, 3, 8, 4), not (64, 3, 8, 8): its generate is wrong" in said
    assert not (tmp_path / "run").exists()


def test_a_traceback_out_of_a_plugin_says_to_whom_to_report_it(shop: Path, tmp_path: Path) -> None:
    small = ("--data.size", "20", "--data.resolution", "8", "--data.batch_size", "10", "--kimg", "0.02")
    run = ("--logger", "none", "--metrics.every_kimg", "0", "--out", str(tmp_path / "run"))
    done = lgen("fit", "--model", "stumbles", *small, *run)
    assert done.exit_code == 1
    assert isinstance(done.exception, KeyError)
    if sys.version_info >= (3, 11):
        (note,) = done.exception.__notes__
        assert note.endswith("(raised in lgen-stumbles 1.0, not in lightning_gen: report it there)")


def test_one_that_fails_in_training_does_not_keep_a_suite_from_the_others(shop: Path, tmp_path: Path) -> None:
    small = "data.size: 20, data.resolution: 8, data.batch_size: 10"
    (tmp_path / "odd.yaml").write_text(
        f"about: Odd.\ntier: smoke\nkimg: 0.1\nsettings: {{{small}}}\nentries: [{{model: stumbles}}, {{model: fine}}]\n"
    )
    places = ("--out", str(tmp_path / "results"), "--runs", str(tmp_path / "runs"))
    done = lgen("benchmark", "run", str(tmp_path / "odd.yaml"), "--forecast", *places)
    assert done.exit_code == 0, done.output + repr(done.exception)
    stumbles, fine = done.stdout.splitlines()[1:3]
    assert "model 'stumbles' of lgen-stumbles 1.0 cannot be trained: KeyError: 'nothing there'" in stumbles
    assert fine.split()[0] == "fine"


@pytest.mark.slow
def test_an_import_that_hangs_or_fails_does_so_elsewhere_and_those_behind_it_are_still_looked_at(shop: Path) -> None:
    reasons = {
        "fails": r"RuntimeError: no licence found",
        "leaves": r"SystemExit: 0",
        "dies": r"it ended the process by SIGABRT",
        "lacking": r"ModuleNotFoundError: No module named 'a_library_nobody_has'",
        "fine": "",
        "hangs": r"still being imported after 2 s, at .*lgen_hangs\.py, line 3",
    }
    for part, verdict in probe("load", [registry.part(name) for name in reasons], limit=2):
        assert verdict.state == ("broken" if reasons[part.name] else "ready")
        assert re.fullmatch(reasons[part.name], verdict.reason), verdict.reason
        del reasons[part.name]
    assert not reasons
    assert not imported()


@pytest.mark.slow
def test_doctor_does_not_wait_for_one_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip_install([wheel("lgen-hangs", *SHOP["lgen-hangs"], tmp_path / "wheels")], tmp_path / "site")
    put_on_path(tmp_path / "site", monkeypatch)
    monkeypatch.setattr(doctor, "IMPORT", 1.0)
    done = lgen("doctor")
    assert done.exit_code == 1
    assert "PROBLEM  model 'hangs' of lgen-hangs 1.0: still being imported after 1 s, at " in done.stdout
    assert "progan" in done.stdout


def test_doctor_goes_on_after_an_extractor_that_cannot_be_constructed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising = FINE.replace("super().__init__(resize)", "raise ZeroDivisionError('no licence')")
    pip_install([wheel("lgen-dear", raising, {"extractors": "mean=Mean"}, tmp_path / "wheels")], tmp_path / "site")
    put_on_path(tmp_path / "site", monkeypatch)
    done = lgen("doctor")
    said = "PROBLEM  extractor 'mean' of lgen-dear 1.0 cannot be constructed: ZeroDivisionError: no licence"
    assert said in done.stdout.splitlines()
    assert "weights of tiny: " in done.stdout
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, "1 problem")


@pytest.mark.slow
def test_the_check_of_a_good_distribution_tries_all_five_kinds(shop: Path) -> None:
    code, found = checked("LGEN_fine")
    assert [(row["part"], row["state"], row["reason"]) for row in found["parts"]] == [
        (part, "ready", "")
        for part in ("model fine", "data source stripes", "extractor mean", "callback quiet", "metric brightness")
    ]
    assert code == 0


@pytest.mark.slow
def test_the_check_of_a_bad_one_says_what_is_wrong(shop: Path) -> None:
    reasons = {
        "raises": r"ZeroDivisionError: no reason \(.*lgen_raises\.py, line \d+\)",
        "misshapen": r"the model Misshapen draws images \(2, 1, 8, 4\), not \(2, 1, 8, 8\): its generate is wrong",
        "noisy": r"importing it changes torch's default dtype and torch's random stream, for everybody else too",
    }
    for part, verdict in probe("check", [registry.part(name) for name in reasons], limit=60):
        assert verdict.state == "broken"
        assert re.fullmatch(reasons[part.name], verdict.reason), verdict.reason


@pytest.mark.parametrize(("distribution", "reason"), sorted(REASONS.items()))
def test_the_check_of_one_that_is_refused_needs_no_import(shop: Path, distribution: str, reason: str) -> None:
    code, found = checked(distribution)
    assert code == 2
    assert found["parts"][-1]["reason"].startswith(reason)


def test_the_check_of_something_else_is_a_mistake(shop: Path) -> None:
    assert "there is no distribution 'lgen-fin'; did you mean 'lgen-fine'?" in mistake("plugin", "check", "lgen-fin")
    assert "the name is one of lgen-fine's: check that" in mistake("plugin", "check", "stripes")
    assert "click 8" in (said := mistake("plugin", "check", "click"))
    assert "brings nothing: it has no entry point in any of lightning_gen.models, " in said
    assert "there is no file nowhere.py" in mistake("plugin", "check", "nowhere.py:Model")


def test_a_distribution_that_does_not_name_its_api_version_is_told_so(shop: Path) -> None:
    assert registry.load("undated").__name__ == "Undated"
    (problem,) = survey.problems(registry.part("undated"))
    assert 'add [project.entry-points."lightning_gen.api"] with 1 = "lgen_undated"' in problem


def test_of_two_distributions_of_one_name_the_second_is_shown_as_hidden(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_install([wheel("lgen-fine", FINE, {"models": "finer=Fine"}, tmp_path / "w", version="2.0")], tmp_path / "site")
    put_on_path(tmp_path / "site", monkeypatch)
    assert "finer" in registry.names()
    with pytest.raises(UserError, match="did you mean 'finer'"):
        registry.load("fine")
    (row,) = [row for row in survey.survey() if row.version == "1.0" and row.distribution == "lgen-fine"]
    assert row.state == "refused"
    assert row.reason == f"lgen-fine in {tmp_path / 'site'} stands before the one in {shop}"
