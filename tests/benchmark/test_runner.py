"""`lgen benchmark run`: rows that go on after a kill, fail alone, and are not run twice."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, TextIO

import pytest
import yaml
from click.testing import CliRunner, Result
from result_rows import TINY, evaluation
from result_rows import row as made_up

from lightning_gen import checkpoints
from lightning_gen.benchmark import leaderboard, results, runner, suite
from lightning_gen.cli import main
from lightning_gen.settings import Settings

FOLDER = Path(__file__).parents[2] / "benchmarks/results"
RESULTS = sorted(FOLDER.glob("*.jsonl"))

SUITE = """
about: Small.
tier: smoke
n: 64
metrics: [fid, modes]
kimg: 0.16
settings: {data.size: 96, data.batch_size: 16, metrics.samples: 32, samples.count: 4, model.width: 4}
entries:
  - {model: dcgan, settings: {model.image_shape: [3, 32, 32], model.ema_halflife_kimg: 1}}
"""


@pytest.fixture(autouse=True)
def short_forecasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "STEPS", 1)


def lgen(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments)])


def write(folder: Path, text: str = SUITE) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


def test_a_suite_ends_with_a_leaderboard_of_its_rows(tmp_path: Path) -> None:
    out = tmp_path / "results"
    done = lgen("run", write(tmp_path), "--out", out, "--runs", tmp_path / "runs")
    assert done.exit_code == 0, done.output + repr(done.exception)
    (row,) = results.read(out / "small.jsonl")
    assert row.state == "done"
    assert {evaluation.weights for evaluation in row.evaluations} >= {"final", "raw"}
    averaged = {evaluation.weights: evaluation.passport.averaged for evaluation in row.evaluations}
    assert averaged["final"]
    assert not averaged["raw"]
    assert row.curve[0]["images_seen"] == 0
    assert (row.settings["model.width"], row.resolved["model.width"]) == (4, 4)
    assert {
        "model.lr",
        "data.batch_size",
        "update.lr_decay",
        "augment.kind",
        "trainer.precision",
    } <= row.resolved.keys()
    assert "model.lr" not in row.settings
    assert row.grid is not None
    assert (out / row.grid).is_file()
    assert "dcgan" in (out / "small.md").read_text()
    assert "<html" in (out / "small.html").read_text()
    again = lgen("run", tmp_path / "small.yaml", "--out", out, "--runs", tmp_path / "runs")
    assert "1 rows, 1 done" in again.output
    assert len((out / "small.jsonl").read_text().splitlines()) == 1
    (out / "small.jsonl").unlink()
    unscored = lgen("run", tmp_path / "small.yaml", "--out", out, "--runs", tmp_path / "runs", "--forecast")
    assert "training takes about 0 s in all" in unscored.output  # only its scores are missing


TRANSLATIONS = """
about: Small.
tier: smoke
n: 48
split: test
metrics: [psnr, kept]
kimg: 0.016
settings: {metrics.every_kimg: 0, samples.every_kimg: 0, data.batch_size: 8}
entries:
  - {model: pix2pix, preset: quick, data: paired}
  - {name: in, model: pix2pix, preset: quick, data: inpaint}
"""


def test_entries_may_have_data_of_their_own_and_translations_are_of_unseen_pictures(tmp_path: Path) -> None:
    out = tmp_path / "results"
    done = lgen("run", write(tmp_path, TRANSLATIONS), "--out", out, "--runs", tmp_path / "runs")
    assert done.exit_code == 0, done.output + repr(done.exception)
    found = results.read(out / "small.jsonl")
    assert [(row.entry, row.state) for row in found] == [("in", "done"), ("pix2pix", "done")]
    passports = [row.evaluations[0].passport for row in found]
    assert {passport.split for passport in passports} == {"test"}
    assert len({passport.digest() for passport in passports}) == 2  # other pictures: never ranked together
    for row in found:
        assert {"psnr", "shape_kept", "place_kept"} <= row.evaluations[0].scores.keys()
        assert row.grid is not None
        assert (out / row.grid).is_file()


def test_a_row_is_done_once_though_the_data_decides_some_of_its_settings(tmp_path: Path) -> None:
    text = SUITE.replace("model.width: 4", "data.resolution: 32, model.width: 16").partition("entries:")[0]
    write(tmp_path, text + "entries:\n  - {model: r3gan, preset: quick}\n")
    out, runs = tmp_path / "results", tmp_path / "runs"
    for said in ("1 rows, 0 done", "1 rows, 1 done"):  # the second time without a forecast
        done = lgen("run", tmp_path / "small.yaml", "--out", out, "--runs", runs)
        assert done.exit_code == 0, done.output
        assert said in done.output
        assert [row.state for row in results.read(out / "small.jsonl")] == ["done"]
    (out / "small.jsonl").unlink()
    (run,) = (path for path in runs.rglob("r3gan-0-*") if path.is_dir())
    run.rename(tmp_path / "elsewhere")
    assert lgen("run", tmp_path / "small.yaml", "--out", out, "--runs", runs, "--quiet").output == ""
    assert [row.state for row in results.read(out / "small.jsonl")] == ["done"]


def test_a_killed_row_goes_on_where_its_checkpoint_was(tmp_path: Path) -> None:
    longer = SUITE.replace("kimg: 0.16", "kimg: 4.8") + "seeds: [3]\n"
    command = [sys.executable, "-m", "lightning_gen", "benchmark", "run", str(write(tmp_path, longer))]
    command += ["--out", str(tmp_path / "results"), "--runs", str(tmp_path / "runs"), "--checkpoint.every_kimg", "0.08"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (found := list(tmp_path.glob("runs/small/*/checkpoints/last.ckpt"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    _, said = first.communicate()
    assert found, said.decode()
    seen = checkpoints.read(found[0])["state_dict"]["_extra_state"]["images_seen"]
    assert not (tmp_path / "results" / "small.jsonl").exists()
    subprocess.run(command, check=True, capture_output=True)
    (row,) = results.read(tmp_path / "results" / "small.jsonl")
    assert row.state == "done"
    records = (found[0].parents[1] / "metrics.jsonl").read_text()
    assert '"attempt": 1' in records
    assert 0 < seen < 4800
    assert row.curve[-1]["images_seen"] == 4800


def test_ctrl_c_saves_the_row_in_progress_and_says_which_are_done(tmp_path: Path) -> None:
    text = SUITE.partition("kimg:")[0] + SUITE.partition("kimg: 0.16\n")[2]
    text = text.replace("model.width: 4}", "model.width: 4, checkpoint.every_kimg: 500, log.every_kimg: 0.016}")
    first = text.partition("entries:\n")[2]
    text = text.replace("model: dcgan", "model: dcgan, kimg: 0.032")
    write(tmp_path, text + first.replace("model: dcgan", "model: dcgan, name: long, kimg: 1000"))
    # a shell that starts tests in the background has them ignore SIGINT, which a new process inherits
    heard = "from signal import *; signal(SIGINT, default_int_handler); from lightning_gen.cli import main; main()"
    command = [sys.executable, "-c", heard, "benchmark", "run", str(tmp_path / "small.yaml"), "--quiet"]
    command += ["--out", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True
    )
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if any(len(path.read_text().splitlines()) > 5 for path in tmp_path.glob("runs/small/long-*/metrics.jsonl")):
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "interrupted, 1 of 2 rows done (dcgan seed 0): the same command goes on from there" in said
    (last,) = tmp_path.glob("runs/small/long-*/checkpoints/last.ckpt")
    assert checkpoints.read(last)["state_dict"]["_extra_state"]["images_seen"] > 0
    assert [row.entry for row in results.read(tmp_path / "results" / "small.jsonl")] == ["dcgan"]


def ended(code: int, says: str) -> Any:
    """A training that is over as soon as it began."""

    class Ended:
        commands: ClassVar[list[list[str]]] = []

        def __init__(self, command: list[str], stdout: TextIO, **options: object) -> None:
            self.commands.append(command)
            stdout.write(says)
            stdout.flush()

        def wait(self) -> int:
            return code

        def kill(self) -> None:
            pass

    return Ended


def test_rows_of_an_entry_with_a_dot_in_its_name_have_each_a_config_and_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = suite.load(str(write(tmp_path, SUITE.replace("model: dcgan", "model: dcgan, name: r1-0.5"))))
    place = runner.Place(tmp_path / "runs", tmp_path / "pictures")
    monkeypatch.setattr(runner.subprocess, "Popen", training := ended(0, ""))
    rows = suite.rows(plan, seeds=[0, 1])
    for row in rows:
        runner._train(row, place.run(row))
    configs = [Path(command[command.index("--config") + 1]) for command in training.commands]
    assert [yaml.safe_load(config.read_text())["seed"] for config in configs] == [0, 1]
    assert {path.name for path in place.runs.glob("*.log")} == {f"{place.run(row).name}.log" for row in rows}


def test_a_row_fails_for_the_reason_of_its_last_start_and_states_what_training_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = suite.load(str(write(tmp_path)))
    (row,) = suite.rows(plan)
    place = runner.Place(tmp_path / "runs", tmp_path / "pictures")
    for says in ("stopped by the watch at 0.05 kimg: mode collapse\n", "Error: no more memory\n"):
        monkeypatch.setattr(runner.subprocess, "Popen", ended(1, says))
        failed = runner.run_row(plan, row, place, "cpu")
        assert failed.reason is not None
        assert says.strip() in failed.reason
        assert failed.kimg == 0
    run = place.run(row)
    run.mkdir()
    records = [{"images_seen": seen, "images_per_second": 16.0, "attempt": 0} for seen in (32, 64)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    failed = runner.run_row(plan, row, place, "cpu")
    assert (failed.kimg, failed.seconds) == (0.064, 4.0)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--runs", "file/x", "cannot write to --runs"),
        ("--out", "file", "cannot write to --out"),
        ("--out", "taken", "cannot write to --out"),
    ],
)
def test_folders_that_cannot_be_written_are_refused_before_the_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "run_row", None)
    write(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "small").touch()  # where the pictures go
    before = sorted(tmp_path.rglob("*"))
    refused = lgen("run", "small.yaml", "-q", "--out", "out", "--runs", "runs", option, value)
    assert refused.exit_code == 2, refused.output + repr(refused.exception)
    assert said in refused.output
    assert "Not a directory" in refused.output
    assert sorted(tmp_path.rglob("*")) == before


def test_a_leaderboard_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    results.append(tmp_path / "cpu.jsonl", made_up())
    (tmp_path / "cpu.html").mkdir()
    refused = lgen("report", tmp_path / "cpu.jsonl")
    assert refused.exit_code == 2, refused.output + repr(refused.exception)
    assert f"cannot write {tmp_path / 'cpu.html'}: Is a directory" in refused.output


def test_a_suite_is_reported_under_the_name_that_its_file_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yml").write_text(f"name: small\n{SUITE}")
    results.append(tmp_path / "out" / "small.jsonl", made_up())
    forecast = lgen("run", "mine.yml", "--only", "dcgan", "--out", "out", "--forecast")
    assert "suite small: 1 rows" in forecast.output, forecast.output
    for named in ("mine.yml", "small"):
        assert "out/small.md" in lgen("report", named, "--out", "out").output


def test_a_file_whose_scores_are_no_numbers_is_none_of_evaluate(tmp_path: Path) -> None:
    for score, code in (('"good"', 2), ("1" + "0" * 400, 2), ("NaN", 0)):
        content = f'{{"scores": {{"fid/tiny": {score}}}, "passport": {json.dumps(TINY.to_json())}}}'
        (tmp_path / "a.json").write_text(content)
        done = lgen("compare", tmp_path / "a.json", tmp_path / "a.json")
        assert done.exit_code == code, done.output + repr(done.exception)


def test_a_second_ctrl_c_kills_the_row_in_progress() -> None:
    class Impatient(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            raise KeyboardInterrupt

    training = Impatient([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(KeyboardInterrupt):
        runner._ended(training)
    assert subprocess.Popen.wait(training) == -signal.SIGKILL


MEASURES = {"tiny": ("tiny", "antialiased-bicubic"), "papers": ("inception-v3-compat", "tf1-bilinear")}


def stored(**changes: object) -> tuple[suite.Suite, suite.Row, results.ResultRow]:
    """A suite of one row, and a line that is the result of it."""
    plan = suite.Suite("small", "", "smoke", (suite.Entry("dcgan"),), n=64, metrics=("fid", "modes"))
    values = {group: {} for group in ("model", "update")} | {"kimg": 1.0, "seed": 0, "data": {"split": "train"}}
    values |= {"augment": {"kind": "none", "target": 0.6}, "trainer": {"precision": None}}
    row = suite.Row("small", "dcgan", 0, Settings("dcgan", "shapes", None, values))
    passport = dataclasses.replace(TINY, n_fake=64)
    kept = {"fingerprint": row.fingerprint, "metrics": ("fid", "modes"), "split": "train", **changes}
    return plan, row, made_up(evaluations=(evaluation(1.8, passport=passport),), **kept)


@pytest.mark.parametrize(
    ("changes", "done"),
    [
        ({}, True),
        ({"metrics": ("modes",)}, True),  # more was scored than is asked for
        ({"split": "train"}, True),  # which is what it was trained on
        ({"n": 90}, False),
        ({"split": "test"}, False),
        ({"metrics": ("fid", "prdc")}, False),
        ({"protocols": ("papers",)}, False),
        ({"protocols": ("tiny", "papers")}, False),
    ],
)
def test_a_row_is_not_done_before_it_has_the_scores_that_are_asked_for(changes: dict[str, object], done: bool) -> None:
    plan, row, result = stored()
    plan = dataclasses.replace(plan, **changes)
    measures = {MEASURES[protocol] for protocol in plan.protocols}
    assert runner.pending(plan, [row], [result], measures) == ([] if done else [row])


def test_a_changed_number_of_samples_is_scored_anew_without_training(tmp_path: Path) -> None:
    out, runs = tmp_path / "results", tmp_path / "runs"
    for n in (64, 48):
        write(tmp_path, SUITE.replace("n: 64", f"n: {n}"))
        done = lgen("run", tmp_path / "small.yaml", "--out", out, "--runs", runs)
        assert "1 rows, 0 done" in done.output, done.output + repr(done.exception)
        (row,) = results.read(out / "small.jsonl")
        assert {evaluation.passport.n_fake for evaluation in row.evaluations} == {n}
    (log,) = runs.rglob("dcgan-0-*.log")
    assert log.read_text().count("dcgan on shapes") == 1
    assert "1 rows, 1 done" in lgen("run", tmp_path / "small.yaml", "--out", out, "--runs", runs).output


def test_a_row_with_augmentation_is_another_run_than_without() -> None:
    _, row, _ = stored()
    assert row.fingerprint == "387b2b13"  # as files of results have it from before augmentation counted
    found = {row.fingerprint}
    for changed in ({"kind": "ada", "target": 0.6}, {"kind": "ada", "target": 0.7}, {"kind": "diffaugment"}):
        values = {**row.settings.values, "augment": changed}
        settings = dataclasses.replace(row.settings, values=values, explicit=frozenset({"augment.kind"}))
        other = dataclasses.replace(row, settings=settings)
        found.add(other.fingerprint)
        assert runner._told(other) == {"augment.kind": changed["kind"]}  # so that seeds with and without stand apart
    assert len(found) == 4


def test_seeds_that_were_trained_at_another_precision_or_by_other_code_stand_apart() -> None:
    _, row, result = stored()
    found = []
    changes: list[tuple[str | None, list[dict[str, str]]]] = [
        ("32-true", []),
        ("bf16-mixed", []),
        (None, [{"file": "/net.py", "class": "Net", "digest": "0123456789ab"}]),
        (None, [{"file": "/net.py", "class": "Net", "digest": "ba9876543210"}]),
    ]
    for seed, (precision, plugins) in enumerate(changes):
        values = {**row.settings.values, "trainer": {"precision": precision}}
        explicit = frozenset({"trainer.precision"} if precision else ())
        settings = dataclasses.replace(row.settings, values=values, explicit=explicit, plugins=plugins)
        told = runner._told(dataclasses.replace(row, settings=settings))
        found.append(dataclasses.replace(result, seed=seed, settings=told))
    lines = leaderboard.build(found).tables[0].lines
    assert sorted(line.name for line in lines if not line.published) == [
        "dcgan (dcgan, plugin Net 0123456789ab)",
        "dcgan (dcgan, plugin Net ba9876543210)",
        "dcgan (dcgan, trainer.precision 32-true)",
        "dcgan (dcgan, trainer.precision bf16-mixed)",
    ]


@pytest.mark.parametrize("name", [path.stem for path in RESULTS])
def test_lines_from_before_metrics_and_split_were_kept_are_done_and_reported(name: str) -> None:
    plan = suite.load(name)
    measures = {MEASURES[protocol] for protocol in plan.protocols}
    found = [row for row in results.read(FOLDER / f"{name}.jsonl") if row.state == "done"]
    assert found
    _, some, _ = stored()
    for result in found:
        assert runner._is_scored(plan, some, result, measures), (result.entry, result.seed)
        assert not runner._is_scored(dataclasses.replace(plan, n=77), some, result, measures)
    assert name in leaderboard.markdown(leaderboard.build(found))


def test_a_row_that_fails_says_why_and_leaves_the_others_alone(tmp_path: Path) -> None:
    # what fails here is found while it runs, not when settings are resolved: a step at this rate overflows
    bad = SUITE + "  - {name: doomed, model: dcgan, settings: {model.image_shape: [3, 32, 32], model.lr: 1.0e+30}}\n"
    out = tmp_path / "results"
    done = lgen("run", write(tmp_path, bad), "--out", out, "--runs", tmp_path / "runs")
    assert done.exit_code == 0, done.output + repr(done.exception)
    states = {row.entry: (row.state, row.reason) for row in results.read(out / "small.jsonl")}
    assert states["dcgan"] == ("done", None)
    assert states["doomed"][0] == "failed"
    assert str(states["doomed"][1]).startswith("stopped by the watch at ")
    assert "doomed" in (out / "small.md").read_text()
    none = lgen("run", tmp_path / "small.yaml", "--only", "doomed", "--out", out, "--runs", tmp_path / "runs", "-q")
    assert none.exit_code == 1
    assert "no row of the suite small is done" in none.output


def test_scores_of_unlike_protocols_are_not_set_side_by_side(tmp_path: Path) -> None:
    write(tmp_path)
    for n in (64, 48):
        (tmp_path / "small.yaml").write_text(SUITE.replace("n: 64", f"n: {n}"))
        lgen("run", tmp_path / "small.yaml", "--out", tmp_path / f"of-{n}", "--runs", tmp_path / "runs")
    (tmp_path / "of-48" / "small.jsonl").rename(tmp_path / "of-64" / "fewer.jsonl")
    refused = lgen("compare", "small/dcgan", "fewer/dcgan", "--out", tmp_path / "of-64")
    assert refused.exit_code == 2
    assert "n_fake: 64 and 48" in refused.output
    alike = lgen("compare", "small/dcgan/0", "small/dcgan/0", "--out", tmp_path / "of-64")
    assert alike.exit_code == 0
    assert "fid/tiny" in alike.output
