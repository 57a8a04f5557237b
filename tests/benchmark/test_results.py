"""Rows survive the file, and a crash in the middle of a write costs no more than its own row."""

from __future__ import annotations

import dataclasses
import errno
import math
import os

import pytest
from result_rows import OFFICIAL, TINY, evaluation, failed, row

from lightning_gen.benchmark.results import append, by_protocol, read
from lightning_gen.errors import UserError


def test_what_is_appended_is_read_again(tmp_path):
    path = tmp_path / "results" / "cpu.jsonl"
    rows = [row("dcgan", 1, evaluations=(evaluation(1.8), evaluation(1.7, "best"))), failed("progan", 0, "no memory")]
    for made in rows:
        append(path, made)
    assert read(path) == rows


def test_there_are_no_rows_before_the_first_run(tmp_path):
    assert read(tmp_path / "cpu.jsonl") == []


def test_a_number_that_is_not_finite_is_read_as_no_number(tmp_path):
    path = tmp_path / "cpu.jsonl"
    append(path, row(fid=math.nan, curve=({"images_seen": 0, "fid/tiny": math.inf},)))
    assert "NaN" not in path.read_text()
    (read_again,) = read(path)
    assert read_again.evaluations[0].scores["fid/tiny"] is None
    assert read_again.curve[0]["fid/tiny"] is None


@pytest.mark.parametrize("left", [1, 20, 400])
def test_a_last_line_cut_short_is_left_out_and_the_next_row_is_whole(tmp_path, left):
    path = tmp_path / "cpu.jsonl"
    append(path, row(seed=0))
    whole = path.read_bytes()
    append(path, row(seed=1))
    path.write_bytes(path.read_bytes()[: len(whole) + left])
    assert [r.seed for r in read(path)] == [0]
    append(path, row(seed=2))
    assert [r.seed for r in read(path)] == [0, 2]


def test_a_full_disk_is_one_line_and_costs_no_other_row(tmp_path, monkeypatch):
    path = tmp_path / "cpu.jsonl"
    append(path, row(seed=0))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            append(path, row(seed=1))
    append(path, row(seed=2))
    assert {0, 2} <= {r.seed for r in read(path)}


def test_a_row_that_lost_only_its_line_end_is_kept(tmp_path):
    path = tmp_path / "cpu.jsonl"
    append(path, row(seed=0))
    path.write_bytes(path.read_bytes().rstrip())
    append(path, row(seed=1))
    assert [r.seed for r in read(path)] == [0, 1]


def test_the_newest_line_of_an_entry_and_seed_counts(tmp_path):
    path = tmp_path / "cpu.jsonl"
    for made in (row(fid=1.8), row("progan", fid=1.5), failed("dcgan", 0, "no memory"), row(fid=1.2), row(seed=1)):
        append(path, made)
    found = {(r.entry, r.seed): r for r in read(path)}
    assert len(found) == 3
    assert found["dcgan", 0] == row(fid=1.2)


def test_a_field_of_a_later_version_is_no_error(tmp_path):
    path = tmp_path / "cpu.jsonl"
    append(path, row())
    path.write_text(path.read_text().replace('{"suite"', '{"of_a_later_version": [1], "suite"'))
    assert read(path) == [row()]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"suite": "cpu"}', "'entry'"),
        ("[1, 2]", "no result row"),
        ('{"suite": "cpu", "entry": "a", "model": "a", "seed": 0, "state": "asleep"}', "'asleep'"),
    ],
)
def test_a_whole_line_that_is_no_row_is_named(tmp_path, line, named):
    path = tmp_path / "cpu.jsonl"
    append(path, row())
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match="line 2") as failure:
        read(path)
    assert named in str(failure.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_evaluations_are_grouped_by_what_changes_the_number():
    other_seed = dataclasses.replace(TINY, seed=7, checkpoint_digest="abc")
    rows = [
        row("dcgan", evaluations=(evaluation(1.8), evaluation(20.0, passport=OFFICIAL))),
        row("progan", evaluations=(evaluation(1.5, passport=other_seed),)),
        failed("vae", 0, "no memory"),
    ]
    groups = by_protocol(rows)
    assert {digest: [r.entry for r, _ in group] for digest, group in groups.items()} == {
        TINY.digest(): ["dcgan", "progan"],
        OFFICIAL.digest(): ["dcgan"],
    }
