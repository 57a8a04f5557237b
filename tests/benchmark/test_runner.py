"""`lgen benchmark run`: rows that go on after a kill, fail alone, and are not run twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lightning_gen import checkpoints
from lightning_gen.benchmark import results, suite
from lightning_gen.cli import main
from lightning_gen.errors import UserError

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
    assert row.grid is not None
    assert (out / row.grid).is_file()
    assert "dcgan" in (out / "small.md").read_text()
    assert "<html" in (out / "small.html").read_text()
    again = lgen("run", tmp_path / "small.yaml", "--out", out, "--runs", tmp_path / "runs")
    assert "1 rows, 1 done" in again.output
    assert len((out / "small.jsonl").read_text().splitlines()) == 1


TRANSLATIONS = """
about: Small.
tier: smoke
n: 48
split: test
metrics: [fid, psnr, kept]
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
    text = SUITE.replace("model.width: 4", "data.resolution: 32").partition("entries:")[0]
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
    ],
)
def test_a_wrong_suite_is_refused_before_anything_runs(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        suite.rows(suite.load(str(write(tmp_path, text))))
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2
