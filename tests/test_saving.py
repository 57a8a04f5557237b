"""What a run leaves on the disk, whatever the intervals are and whoever is killed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner, Result

from lightning_gen import checkpoints, records
from lightning_gen.cli import main
from lightning_gen.loggers import make

SMALL = ["--model", "dcgan", "--preset", "quick", "--model.width", "4", "--data.size", "96", "--data.batch_size", "16"]
SMALL += ["--kimg", "0.064", "--metrics.samples", "16", "--samples.every_kimg", "0", "--logger", "none"]


def fit(*words: Any) -> Result:
    return CliRunner().invoke(main, ["fit", *SMALL, *map(str, words)])


def test_what_was_trained_is_saved_even_where_no_interval_is_set(tmp_path: Path) -> None:
    assert fit("--checkpoint.every_kimg", 0, "--out", tmp_path / "run").exit_code == 0
    model, _ = checkpoints.load_model(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert model.clock.images == 64


def test_a_monitor_that_no_score_is_named_is_an_error_before_training(tmp_path: Path) -> None:
    done = fit("--checkpoint.monitor", "fid/tyni", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "--checkpoint.monitor fid/tyni: the run has no such score; did you mean 'fid/tiny'?" in done.output
    assert not (tmp_path / "run").exists()


def test_a_rolled_back_run_has_to_beat_its_best_before_that_is_replaced(tmp_path: Path) -> None:
    assert fit("--metrics.every_kimg", 0.016, "--watch.action", "rollback", "--out", tmp_path / "run").exit_code == 0
    folder = tmp_path / "run" / "checkpoints"
    best = checkpoints.read(folder / "best.ckpt")["callbacks"]["Checkpoint"]["best"]
    assert checkpoints.roll_back(folder, 0.3, "beginning") == 0
    assert checkpoints.read(folder / "last.ckpt")["callbacks"]["Checkpoint"]["best"] == best < float("inf")


def test_a_resumed_run_that_watches_another_score_keeps_the_best_of_that_one(tmp_path: Path) -> None:
    run, every = tmp_path / "run", ["--metrics.every_kimg", "0.016", "--checkpoint.every_kimg", "0.016"]
    assert fit(*every, "--checkpoint.monitor", "is/tiny", "--out", run).exit_code == 0
    before = checkpoints.read(run / "checkpoints" / "last.ckpt")["callbacks"]["Checkpoint"]
    assert before["best"] < 0  # which no Fréchet distance is

    def resume(*words: str) -> Result:
        return CliRunner().invoke(main, ["fit", "--resume", str(run), *words])

    assert resume("--kimg", "0.096", "--checkpoint.monitor", "fid/tiny").exit_code == 0
    best = checkpoints.read(run / "checkpoints" / "best.ckpt")
    assert best["callbacks"]["Checkpoint"]["best"] > 0
    assert best["state_dict"]["_extra_state"]["images_seen"] > 64
    done = resume("--kimg", "0.128", "--checkpoint.monitor", "fid/tyni")
    assert done.exit_code == 2
    assert "--checkpoint.monitor fid/tyni: the run has no such score; did you mean 'fid/tiny'?" in done.output
    assert checkpoints.read(run / "checkpoints" / "last.ckpt")["state_dict"]["_extra_state"]["images_seen"] == 112


def test_a_run_that_lost_its_last_checkpoint_goes_on_from_what_it_has_and_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fit("--metrics.every_kimg", 0.016, "--checkpoint.every_kimg", 0.016, "--out", run).exit_code == 0
    best = checkpoints.read(run / "checkpoints" / "best.ckpt")["state_dict"]["_extra_state"]["images_seen"]
    healthy = checkpoints.read(run / "checkpoints" / "healthy.ckpt")["state_dict"]["_extra_state"]["images_seen"]
    (run / "checkpoints" / "last.ckpt").unlink()
    done = CliRunner().invoke(main, ["fit", "--resume", str(run)])
    assert done.exit_code == 0, done.output
    assert "has lost its last.ckpt: it goes on from" in done.output
    assert f"at {max(best, healthy) / 1000:g} kimg" in done.output
    again = [record["images_seen"] for record in records.read(run / "metrics.jsonl") if record["attempt"] == 1]
    assert all(seen > max(best, healthy) for seen in again)


def test_what_a_killed_process_left_half_written_goes_with_the_next_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".last.ckpt.4711").write_bytes(b"half")
    checkpoints.AtomicCheckpointIO().save_checkpoint({"weight": torch.ones(1)}, tmp_path / "last.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_csv_logger_has_written_what_it_was_told(tmp_path: Path) -> None:
    (logger,) = make(["csv"], tmp_path, 0, print)
    for seen in (16, 32):
        logger.log_metrics({"loss": 1.0}, step=seen)
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["16", "32"]


def test_weights_are_written_under_their_own_ending_and_never_over_a_folder(tmp_path: Path) -> None:
    assert fit("--out", tmp_path / "run").exit_code == 0
    taken = tmp_path / "taken.safetensors"
    taken.mkdir()
    for name, said in (("w.bin", "read again by their ending, .safetensors"), (taken.name, "cannot write")):
        done = CliRunner().invoke(main, ["export", str(tmp_path / "run"), "--out", str(tmp_path / name)])
        assert done.exit_code == 2, done.output
        assert said in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "taken.safetensors"]


def test_a_model_that_draws_nan_is_said_to_have_diverged(tmp_path: Path) -> None:
    assert fit("--out", tmp_path / "run").exit_code == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = checkpoints.read(last)
    for value in content["state_dict"].values():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            value.fill_(float("nan"))
    checkpoints.AtomicCheckpointIO().save_checkpoint(content, last)
    done = CliRunner().invoke(main, ["sample", str(tmp_path / "run"), "--n", "2", "--grid", str(tmp_path / "grid.png")])
    assert done.exit_code == 2
    assert "the model has diverged" in done.output
    assert not (tmp_path / "grid.png").exists()


def test_a_checkpoint_with_a_setting_that_the_installed_model_does_not_have_is_one_line(tmp_path: Path) -> None:
    assert fit("--out", tmp_path / "run").exit_code == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = checkpoints.read(last)
    content["hyper_parameters"]["of_another_version"] = 1
    torch.save(content, last)
    done = CliRunner().invoke(main, ["sample", str(last), "--grid", str(tmp_path / "grid.png")])
    assert done.exit_code == 2
    assert "dcgan of lightning-gen 0.1.0 and does not fit the one installed: " in done.output
    assert "of_another_version" in done.output
    assert done.output.count("\n") == 1
    assert not (tmp_path / "grid.png").exists()
