"""What a run writes survives crashes, and is read back without running code."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from lightning_gen import checkpoints, records
from lightning_gen.errors import UserError
from lightning_gen.models.gan import GAN
from lightning_gen.module import ORIGIN


def write(path: Path, *rows: tuple[int, int]) -> None:
    for attempt, images in rows:
        records.append(path, {"images_seen": images, "attempt": attempt})


def test_records_are_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert records.read(path) == []
    assert records.next_attempt(tmp_path) == 0
    write(path, (0, 0), (0, 10), (0, 10), (0, 20))
    assert [r["images_seen"] for r in records.read(path)] == [0, 10, 10, 20]
    assert records.next_attempt(tmp_path) == 1
    write(tmp_path / "events.jsonl", (1, 10))  # of an attempt that wrote no other record
    assert records.next_attempt(tmp_path) == 2


def test_what_a_later_attempt_did_again_is_superseded(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, (0, 0), (0, 10), (0, 20), (0, 30), (1, 20), (1, 30), (2, 30))
    assert [(r["attempt"], r["images_seen"]) for r in records.read(path)] == [(0, 0), (0, 10), (1, 20), (2, 30)]


def test_a_line_cut_short_by_a_crash_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, (0, 0))
    with path.open("ab") as file:
        file.write(b'{"images_seen": 10, "att')
    write(path, (1, 10))
    assert [r["images_seen"] for r in records.read(path)] == [0, 10]


def test_values_that_json_does_not_know_are_null(tmp_path: Path) -> None:
    records.append(tmp_path / "m.jsonl", {"images_seen": 0, "attempt": 0, "loss": float("nan"), "fid": float("inf")})
    assert records.read(tmp_path / "m.jsonl")[0]["loss"] is None
    assert records.read(tmp_path / "m.jsonl")[0]["fid"] is None


CONTENT = {ORIGIN: {"model": "dcgan"}, "weights": torch.ones(1000)}


def test_a_checkpoint_is_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    checkpoints.AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / "deep" / "last.ckpt")
    assert torch.equal(checkpoints.read(tmp_path / "deep" / "last.ckpt")["weights"], CONTENT["weights"])
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["last.ckpt"]


def test_a_write_that_fails_leaves_the_previous_checkpoint_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = tmp_path / "last.ckpt"
    checkpoints.AtomicCheckpointIO().save_checkpoint(CONTENT, last)
    before = last.read_bytes()

    def disk_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(UserError, match="No space left on device; the previous one is intact"):
        checkpoints.AtomicCheckpointIO().save_checkpoint({**CONTENT, "more": 1}, last)
    assert last.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_disk_that_is_full_in_the_middle_is_named_and_not_what_the_writer_makes_of_it(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of file sizes are Unix's")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write the checkpoint \S+: \[Errno 27\] File too large$"):
            checkpoints.AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(10**6)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_an_error_from_elsewhere_is_not_blamed_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loader_died(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr("torch.save", loader_died)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        checkpoints.AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the checkpoint .*last\.ckpt"):
        checkpoints.AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / "file" / "last.ckpt")


@pytest.mark.parametrize("kept", [0, 10, 500, -1])
def test_a_damaged_checkpoint_is_named_with_what_is_beside_it(tmp_path: Path, kept: int) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        checkpoints.AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / name)
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"last\.ckpt is damaged.*\n.*best\.ckpt"):
        checkpoints.read(last)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this code must never run",))


def test_loading_runs_no_code_from_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({ORIGIN: {}, "bomb": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        checkpoints.read(tmp_path / "bomb.ckpt")
    assert "never" not in capsys.readouterr().out


def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="was not written by lightning_gen"):
        checkpoints.read(tmp_path / "other.ckpt")


@pytest.mark.filterwarnings("ignore:`weights_only` was not set")
def test_a_checkpoint_of_a_plain_trainer_says_how_it_is_opened(tmp_path: Path) -> None:
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(GAN(width=2))
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(UserError) as refused:
        checkpoints.load_model(tmp_path / "plain.ckpt")
    assert str(refused.value) == (
        f"{tmp_path / 'plain.ckpt'} does not say which model it is of, as it was not written by `lgen fit` or "
        "`experiment.fit`: Class.load_from_checkpoint(...) opens it in Python"
    )
    assert isinstance(GAN.load_from_checkpoint(tmp_path / "plain.ckpt"), GAN)
