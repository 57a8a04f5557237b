"""`lgen watch`: both forms of logs, whole, cut short and wrong; one verdict a run, for people and for programs."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_up_runs import curve, game

from lightning_gen.cli import main
from lightning_gen.errors import UserError
from lightning_gen.watch import logs

FALLING = curve(40, sd=0)
RISING = [*FALLING[:30], *[v * 3 for v in FALLING[30:]]]


def lgen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["watch", *map(str, arguments)])


def objects(*arguments: str | Path) -> list[dict[str, Any]]:
    done = lgen(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def own(folder: Path, fid: list[float], start: int = 0, attempt: int = 0) -> Path:
    """A run directory as a run leaves it: losses ten times as often as scores."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, record in enumerate(game(10 * len(fid))):
        at = {"images_seen": start + int(record.at), "step": i + 1, "attempt": attempt}
        lines.append({**at, **record.values, "images_per_second": 80.0})
        if i % 10 == 9:
            lines.append({**at, "fid/tiny": fid[i // 10], "is/tiny": 2.0})
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return folder


def whole(name: str, fid: list[float]) -> dict[str, Any]:
    """A run as the public logs hold it."""
    losses = [[int(r.at / 10), r.values["loss_d"], r.values["loss_g"]] for r in game(20 * len(fid))]
    scores = [[2000 * (i + 1), v] for i, v in enumerate(fid)]
    return {"dataset": "X", "run": name, "losses_step_d_g": losses, "fid_step_value": scores, "f8_step_value": []}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    file = tmp_path / "logs.jsonl.gz"
    with gzip.open(file, "wt") as text:
        for name, fid in (("fine", FALLING), ("lost", RISING), ("stuck", [*FALLING[:10], *[FALLING[10]] * 30])):
            text.write(json.dumps(whole(name, fid)) + "\n")
    return file


def test_one_object_a_run(many: Path) -> None:
    assert objects(many) == [
        {"run": "fine", "verdict": "healthy", "rule": None, "alarm_at": None, "share_left": 0.0},
        {"run": "lost", "verdict": "collapsed", "rule": "score-collapse", "alarm_at": 62000, "share_left": 0.225},
        {"run": "stuck", "verdict": "stagnated", "rule": "stagnation", "alarm_at": 44000, "share_left": 0.45},
    ]


def test_one_line_a_run_with_the_numbers(many: Path) -> None:
    fine, lost, stuck = lgen(many).output.splitlines()
    assert fine == "fine  healthy, to step 80,000"
    assert lost.startswith("lost  collapsed at step 62,000: fid is ")
    assert "times its best level" in lost
    assert lost.endswith("(22% of the run left)")
    assert stuck.startswith("stuck  stagnated at step 44,000")


def test_a_run_directory_is_the_same_as_its_metrics(tmp_path: Path) -> None:
    run = own(tmp_path / "blobs", RISING)
    (found,) = objects(run)
    assert found == {
        "run": "blobs",
        "verdict": "collapsed",
        "rule": "score-collapse",
        "alarm_at": 310_000,
        "share_left": 0.225,
    }
    assert objects(run / "metrics.jsonl") == [found]
    (run / "metrics.jsonl.gz").write_bytes(gzip.compress((run / "metrics.jsonl").read_bytes()))
    assert objects(run / "metrics.jsonl.gz") == [found]


def test_what_is_left_counts_from_the_budget_of_the_run(tmp_path: Path) -> None:
    run = own(tmp_path / "run", RISING)
    (run / "run.yaml").write_text("kimg: 1000\nmodel:\n  name: progan\n")
    assert objects(run)[0]["share_left"] == pytest.approx(1 - 310 / 1000)


def test_null_is_a_number_that_was_not_finite(tmp_path: Path) -> None:
    run = own(tmp_path / "run", FALLING[:5])
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"images_seen": 51_000, "step": 51, "loss_d": None, "attempt": 0}) + "\n")
    (found,) = objects(run)
    assert (found["verdict"], found["rule"], found["alarm_at"]) == ("diverged", "not-finite", 51_000)


def test_what_a_later_attempt_superseded_does_not_count(tmp_path: Path) -> None:
    run = own(tmp_path / "run", RISING)
    assert objects(run)[0]["verdict"] == "collapsed"
    own(run, FALLING[30:], start=300_000, attempt=1)
    assert objects(run)[0]["verdict"] == "healthy"


def test_losses_alone_decide_where_scores_are_hidden(many: Path) -> None:
    assert [one["verdict"] for one in objects(many, "--without", "fid")] == ["healthy"] * 3


def test_broken_lines_are_skipped(many: Path, tmp_path: Path) -> None:
    text = gzip.decompress(many.read_bytes()).decode()
    cut = tmp_path / "cut.jsonl"
    cut.write_text("[]\nnot json\n\n3\n" + text + json.dumps(whole("cut", FALLING))[:4000])
    assert [one["run"] for one in objects(cut)] == ["fine", "lost", "stuck"]
    run = own(tmp_path / "run", RISING)
    before = objects(run)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"images_seen": 999999999, "fid/ti')
    assert objects(run) == before


def test_a_compressed_log_that_is_still_written_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    run = own(tmp_path / "run", RISING)
    packed = gzip.compress((run / "metrics.jsonl").read_bytes())
    (tmp_path / "half.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (log,) = logs.read(tmp_path / "half.jsonl.gz")
    assert 50 < len(log.records) < 440


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    odd = whole("odd", FALLING)
    odd["losses_step_d_g"][3] = ["x", 1, 2]
    odd["losses_step_d_g"][4] = [500, 1]
    odd["fid_step_value"] += [None, {"step": 3}, [90_000, None]]
    (tmp_path / "odd.jsonl").write_text(json.dumps(odd) + "\n")
    (log,) = logs.read(tmp_path / "odd.jsonl")
    assert log.records[-1].at == 90_000
    assert objects(tmp_path / "odd.jsonl")[0]["verdict"] == "diverged"
    text = {"images_seen": 1000, "step": 1, "loss_d": "low", "loss_g": 1.0, "fid/tiny": True}
    (tmp_path / "own.jsonl").write_text(json.dumps(text) + "\n")
    (log,) = logs.read(tmp_path / "own.jsonl")
    assert (log.run, dict(log.records[0].values)) == ("own.jsonl", {"loss_g": 1.0})


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\xfe", b"hello\n", b'{"a": 1}\n', b'{"images_seen": 5, "rule": "x"}\n']
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    done = lgen(file)
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert f"{file} is no log of a run" in done.output


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "nope.jsonl", "there is no file"), (tmp_path, "is no run directory")):
        done = lgen(path)
        assert (done.exit_code, done.output.count("\n")) == (2, 1)
        assert said in done.output
    with pytest.raises(UserError, match="there is no file"):
        logs.read(tmp_path / "nope")


def test_a_field_that_no_rule_reads_is_a_mistake(many: Path) -> None:
    done = lgen(many, "--without", "fdi")
    assert done.exit_code == 2
    assert "did you mean 'fid'?" in done.output


def test_a_replay_imports_nothing_heavy(many: Path) -> None:
    heavy = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "numpy", "rich")
    program = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print(*sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr))\n"
        "from lightning_gen.cli import main\n"
        "main(prog_name='lgen')"
    )
    done = subprocess.run([sys.executable, "-c", program, "watch", str(many)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "\n")
    assert done.stdout.count("\n") == 3


def test_the_benchmark_runs_on_any_such_file(tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    runs = [whole(f"{n}-{i}", fid) for i in range(3) for n, fid in (("fine", FALLING), ("lost", RISING))]
    file.write_text("".join(json.dumps(run) + "\n" for run in runs))
    script = Path(__file__).parents[2] / "benchmarks" / "reliability" / "logs.py"
    done = subprocess.run([sys.executable, str(script), str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "6 runs, 3 of them ended above 1.5 times" in done.stdout
