"""What a report says, and that it says it by itself."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_up_run import make
from PIL import Image

from lightning_gen import report
from lightning_gen.callbacks.report import Report
from lightning_gen.cli import main
from lightning_gen.errors import UserError
from lightning_gen.report.page import GRIDS, sentence, thinned


def test_the_sentence_says_what_how_far_how_long_and_how_good(tmp_path: Path) -> None:
    told = sentence(report.read(make(tmp_path / "run")))
    assert told == (
        "dcgan on shapes, preset quick, seed 3: finished, 100 kimg, 3 min 20 s of training. "
        "fid/tiny from 9 to 4.5, best 4.5 at 100 kimg."
    )


def test_a_run_that_the_watch_stopped_says_so(tmp_path: Path) -> None:
    run = report.read(make(tmp_path / "run", stopped=True, kimg=40))
    assert run.state == "stopped by the watch (mode-collapse)"
    assert "40 of 100 kimg" in sentence(run)


def test_a_run_that_was_resumed_after_the_watch_stopped_it_is_not_stopped(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", stopped=True, kimg=40)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"images_seen": 41000, "step": 9, "loss_d": 1.0, "attempt": 1}\n')
    assert report.read(folder).state == "not finished"


@pytest.mark.parametrize("content", ["", "kimg: [\n", "- a list\n", "model: dcgan\n", "\x00"])
def test_a_damaged_run_yaml_is_one_line_with_code_2(content: str, tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (run / "run.yaml").write_text(content)
    done = CliRunner().invoke(main, ["report", str(run)])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert f"{run / 'run.yaml'} does not say which run this is" in done.output


def test_a_run_that_still_trains_has_a_report(tmp_path: Path) -> None:
    run = make(tmp_path / "run", records=3, grids=1, kimg=10)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"images_seen": 11000, "st')  # the line that is being written
    assert "not finished, 10 of 100 kimg" in report.page([report.read(run)])


def test_a_run_without_any_record_has_a_report(tmp_path: Path) -> None:
    run = make(tmp_path / "run", grids=0)
    for name in ("metrics.jsonl", "events.jsonl", "passport.json"):
        (run / name).unlink()
    assert "no records yet" in report.page([report.read(run)])


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    page = report.page([report.read(make(tmp_path / "run"))])
    loaded = re.findall(r'(?:src|href)\s*=\s*"([^"]{0,30})|url\(([^)]{0,30})|@import', page)
    assert {(one or two)[:5] for one, two in loaded} == {"data:"}
    assert "default-src 'none'" in page


def test_what_a_run_says_of_itself_is_text_and_never_markup(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().replace("fid/tiny", "fid/</script><b>")
    (run / "metrics.jsonl").write_text(lines)
    page = report.page([report.read(run)])
    assert "<odd>" not in page
    assert "&lt;odd&gt;" in page
    assert "</script><b>" not in page


def test_several_runs_stand_over_one_another(tmp_path: Path) -> None:
    runs = [report.read(make(tmp_path / name)) for name in ("one", "two")]
    page = report.page(runs)
    assert '"label":"one: loss_d"' in page
    assert '"label":"two: loss_d"' in page


def test_each_run_has_its_own_grids_where_an_earlier_one_has_none(tmp_path: Path) -> None:
    page = report.page([report.read(make(tmp_path / name, grids=grids)) for name, grids in (("one", 0), ("two", 3))])
    assert re.findall(r'data-run="(\d)"', page) == ["1"]


def test_accompanying_values_and_places_are_no_lines(tmp_path: Path) -> None:
    page = report.page([report.read(make(tmp_path / "run"))])
    labels = set(re.findall(r'"label":"([^"]*)"', page))
    assert {"fid/tiny", "loss_d", "loss_g", "grad_norm_d", "images_per_second", "diversity"} <= labels
    assert not labels & {"is/tiny/std", "step", "images_seen", "attempt"}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(5, 100))
def test_thinning_keeps_order_both_ends_and_every_extreme(values: list[float], most: int) -> None:
    points = [(float(i), value) for i, value in enumerate(values)]
    kept = thinned(points, most)
    assert len(kept) <= most
    assert kept == sorted(kept, key=lambda p: p[0])
    assert kept[-1] == points[-1]
    assert max(v for _, v in kept) == max(values)
    assert min(v for _, v in kept) == min(values)
    assert set(kept) <= set(points)


def test_of_many_grids_the_first_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    run = report.read(make(tmp_path / "run", grids=60))
    page = report.page([run])
    assert f'max="{GRIDS - 1}"' in page
    assert '"grids":[[[0.0,' in page


def test_a_heavy_grid_is_made_smaller(tmp_path: Path) -> None:
    run = make(tmp_path / "run", grids=1)
    Image.effect_noise((1500, 1500), 80).save(run / "samples" / f"{0:012d}.png")
    page = report.page([report.read(run)])
    assert "data:image/webp" in page
    assert len(page) < 1_500_000


def test_the_verb_writes_into_the_run_and_where_it_is_told(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    done = CliRunner().invoke(main, ["report", str(run)])
    assert (done.exit_code, done.output.strip()) == (0, str(run / "report.html"))
    other = tmp_path / "other.html"
    assert CliRunner().invoke(main, ["report", str(run), str(run), "--out", str(other)]).exit_code == 0
    assert other.read_text() != (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"), [([], "Missing argument"), (["nowhere"], "nowhere holds no run: it has no run.yaml")]
)
def test_a_mistake_is_one_line_with_code_2(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["report", *arguments])
    assert done.exit_code == 2
    assert words in done.output


def test_a_page_that_cannot_be_written_leaves_nothing_and_says_where(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (tmp_path / "taken").write_text("a file, where a folder would have to be")
    done = CliRunner().invoke(main, ["report", str(run), "--out", str(tmp_path / "taken" / "page.html")])
    assert done.exit_code == 2
    assert "cannot write --out" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "taken"]


def test_a_report_that_fails_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path)  # a folder that holds no run
    Report(1.0).act(trainer, None)  # type: ignore[arg-type]
    assert "report.html could not be written: UserError" in capsys.readouterr().out
    with pytest.raises(UserError):
        report.read(tmp_path)
