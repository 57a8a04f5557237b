"""A whole run through the command: what it leaves behind, and what it leaves alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from lightning_gen import checkpoints, loggers, records, report, settings
from lightning_gen.callbacks import metrics
from lightning_gen.cli import main
from lightning_gen.metrics.passport import Passport

SMALL = ["--model", "dcgan", "--preset", "quick", "--model.width", "4", "--data.size", "96", "--data.batch_size", "16"]
SMALL += ["--kimg", "0.16", "--metrics.samples", "64", "--samples.count", "4"]


def lgen(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small run with every logger that writes files."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    arguments = [*SMALL, "--logger", "tensorboard", "--logger", "csv", "--logger", "wandb", "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        said = lgen("fit", *arguments)
        import wandb

        wandb.finish()
    for name in ("samples", str(folder), "fid/tiny"):
        assert name in said
    return folder


def test_a_run_directory_has_what_the_documentation_says(run: Path) -> None:
    assert {"run.yaml", "metrics.jsonl", "samples", "checkpoints", "tensorboard", "report.html"} <= {
        p.name for p in run.iterdir()
    }
    assert {"last.ckpt", "best.ckpt", "healthy.ckpt"} == {
        p.name for p in (run / "checkpoints").iterdir() if p.name[0] != "."
    }
    grids = sorted((run / "samples").glob("*.png"))
    assert grids[0].name == f"{0:012d}.png"
    assert grids[-1].name == f"{160:012d}.png"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is found at once")
def test_a_run_without_a_gpu_does_not_look_for_one_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # as Lightning leaves it
    looked = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: looked.append(1) or 0)
    counts = []
    for kimg in ("0.032", "0.32"):
        looked.clear()
        lgen("fit", *SMALL, "--kimg", kimg, "--logger", "none", "--out", str(tmp_path / kimg))
        counts.append(len(looked))
    assert counts[1] <= counts[0]


def test_records_carry_the_clock_and_begin_with_the_untrained_model(run: Path) -> None:
    found = records.read(run / "metrics.jsonl")
    assert all({"images_seen", "step", "attempt"} <= record.keys() for record in found)
    assert found[0]["images_seen"] == 0
    assert {"fid/tiny", "is/tiny", "mode_coverage", "on_manifold"} <= found[0].keys()
    assert {"loss_d", "loss_g", "images_per_second"} <= found[1].keys()
    assert found[-1]["images_seen"] == 160
    assert all(record["images_seen"] == 16 * record["step"] for record in found)


def test_the_best_checkpoint_is_of_the_best_score(run: Path) -> None:
    scored = [r for r in records.read(run / "metrics.jsonl") if "fid/tiny" in r and r["images_seen"] > 0]
    best = min(scored, key=lambda record: record["fid/tiny"])
    content = checkpoints.read(run / "checkpoints" / "best.ckpt")
    assert content["state_dict"]["_extra_state"]["images_seen"] == best["images_seen"]


def test_the_best_checkpoint_is_of_the_highest_score_where_more_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter([1.0, 1.5, 2.0, 1.7])
    monkeypatch.setattr(metrics, "evaluate", lambda *_, **__: [{"is/tiny": next(drawn)}])
    often = ["--kimg", "0.048", "--metrics.every_kimg", "0.016", "--checkpoint.every_kimg", "0.016"]
    lgen("fit", *SMALL, *often, "--checkpoint.monitor", "is/tiny", "--logger", "none", "--out", str(tmp_path / "r"))
    best = checkpoints.read(tmp_path / "r" / "checkpoints" / "best.ckpt")
    assert best["state_dict"]["_extra_state"]["images_seen"] == 32


def test_weights_that_were_exported_into_a_run_do_not_stand_for_its_checkpoints(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(run / "checkpoints", again / "checkpoints")
    shutil.copy(run / "run.yaml", again)
    (again / checkpoints.WEIGHTS).write_bytes(b"of an earlier day")
    assert checkpoints.find(again) == again / "checkpoints" / "last.ckpt"
    assert checkpoints.find(again, "best") == again / "checkpoints" / "best.ckpt"
    (again / "run.yaml").unlink()
    assert checkpoints.find(again) == again / checkpoints.WEIGHTS


def test_a_rollback_takes_the_grids_of_the_abandoned_attempt_with_it(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(run, again)
    for name in ("last", "best"):  # nothing was healthy but the untrained model
        (again / "checkpoints" / f"{name}.ckpt").unlink()
    seen = checkpoints.roll_back(again / "checkpoints", 0.3)
    assert 0 < seen < 160
    kept = [int(grid.stem) for grid in (again / "samples").glob("*.png")]
    assert 0 in kept
    assert max(kept) <= seen


def test_the_last_step_has_a_record_wherever_the_budget_ends(tmp_path: Path) -> None:
    quiet = ["--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--report.every_kimg", "0", "--logger", "none"]
    lgen("fit", *SMALL, *quiet, "--kimg", "0.04", "--log.every_kimg", "0.03", "--out", str(tmp_path / "r"))
    assert [r["images_seen"] for r in records.read(tmp_path / "r" / "metrics.jsonl")] == [32, 48]
    assert report.read(tmp_path / "r").state == "finished"


def test_every_logger_has_the_losses_on_the_axis_of_images(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert events.Scalars("loss_d")[-1].step == 160
    assert events.Images("samples")[-1].step == 160
    scored = [event.step for event in events.Scalars("fid/tiny")]
    assert (scored, scored[-1]) == (sorted(scored), 160)
    (table,) = (run / "csv").rglob("metrics.csv")
    assert "loss_d" in table.read_text()


def test_tensorboard_has_settings_versions_passport_and_the_final_scores(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()

    def said(tag: str) -> str:
        return events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()

    assert "width: 4" in said("settings")
    assert "torch" in said("versions")
    assert '| extractor | "tiny" |' in said("passport")
    passport = Passport.from_json(json.loads((run / "passport.json").read_text()))
    assert passport.digest() in said("passport")
    assert said("scores").splitlines()[0].startswith("| images_seen | fid/tiny |")
    assert said("scores").splitlines()[-1].startswith("| 160 |")
    assert "_hparams_/session_start_info" in events.Tags()["tensors"] or events.summary_metadata


def test_weights_and_biases_has_settings_media_and_tables(run: Path) -> None:
    (kept,) = (run / "wandb").glob("offline-run-*")
    (records_of_wandb,) = (path.read_bytes() for path in kept.glob("*.wandb"))
    assert b'"ema_halflife_kimg":' in records_of_wandb  # a setting
    assert b'"torch-fidelity":' in records_of_wandb  # a version
    media = kept / "files" / "media"
    assert len(list((media / "images").glob("samples_*.png"))) == len(list((run / "samples").glob("*.png")))
    (passport,) = (json.loads(path.read_text()) for path in (media / "table").glob("passport_*.json"))
    assert ["extractor", '"tiny"'] in passport["data"]
    (scores,) = (json.loads(path.read_text()) for path in (media / "table").glob("scores_*.json"))
    assert scores["columns"][:2] == ["images_seen", "fid/tiny"]
    assert [row[0] for row in scores["data"]] == [
        r["images_seen"] for r in records.read(run / "metrics.jsonl") if "fid/tiny" in r
    ]


def test_the_axis_of_weights_and_biases_is_images_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, float]] = []
    monkeypatch.setattr(loggers.Wandb, "experiment", SimpleNamespace(log=kept.append))
    loggers.Wandb.log_metrics(object.__new__(loggers.Wandb), {"loss_d": 1.0}, 320)
    assert kept == [{"loss_d": 1.0, "images_seen": 320}]


@pytest.mark.usefixtures("fresh_wandb")
def test_a_run_whose_tracker_does_not_answer_is_kept_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setattr(loggers, "PATIENCE", 0.2)
    said: list[str] = []
    with socket.socket() as mute:  # takes the connection, and then says nothing, as a firewall that swallows packets
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        (logger,) = loggers.make(["wandb"], tmp_path, 0, said.append)
        logger.experiment.finish()  # type: ignore[attr-defined]
    assert "does not answer (timed out): this run is kept offline" in said[0]
    assert f"wandb sync {tmp_path}" in said[1]
    assert list((tmp_path / "wandb").glob("offline-run-*"))


def test_the_settings_of_a_run_are_a_config_for_another(run: Path) -> None:
    again = yaml.safe_load(lgen("fit", "--config", str(run / "run.yaml"), "--print-config"))
    assert again == yaml.safe_load((run / "run.yaml").read_text())


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: {name: dcgan, lr: 0.5, width: 7}\nkimg: 3\npreset: quick\n")
    found = yaml.safe_load(lgen("fit", "--config", str(tmp_path / "c.yaml"), "--model.width", "9", "--print-config"))
    assert (found["model"]["lr"], found["model"]["width"], found["kimg"]) == (0.5, 9, 3.0)
    assert found["model"]["latent_dim"] == 16  # the preset's


def test_a_setting_without_a_preset_says_that_the_small_one_does_not_apply() -> None:
    assert settings.resolve(model="dcgan").preset == "quick"
    resolved = settings.resolve(["--model.width", "9"], model="dcgan")
    assert resolved.preset is None
    assert any("--preset quick" in note for note in resolved.notes)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_image_i_of_a_seed_does_not_depend_on_how_many_are_drawn_at_once(run: Path, batch: int, tmp_path: Path) -> None:
    lgen("sample", str(run), "--n", "70", "--seed", "3", "--out", str(tmp_path / "a"), "--batch-size", str(batch))
    lgen("sample", str(run), "--n", "8", "--start", "62", "--seed", "3", "--out", str(tmp_path / "b"))
    for i in range(62, 70):
        a, b = (np.asarray(Image.open(tmp_path / x / f"{i:06d}.png")).astype(int) for x in "ab")
        assert np.abs(a - b).max() <= 1


def test_a_finished_run_is_extended_by_a_longer_budget(run: Path, tmp_path: Path) -> None:
    arguments = [*SMALL, "--logger", "none", "--metrics.every_kimg", "0", "--out", str(tmp_path / "r")]
    lgen("fit", *arguments)
    lgen("fit", "--resume", str(tmp_path / "r"), "--kimg", "0.2")
    found = records.read(tmp_path / "r" / "metrics.jsonl")
    assert found[-1]["images_seen"] == 208
    assert found[-1]["attempt"] == 1


def test_a_run_goes_on_with_images_that_moved_and_not_with_others(tmp_path: Path) -> None:
    def draw(folder: Path, n: int) -> None:
        folder.mkdir()
        for i in range(n):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.png")

    draw(tmp_path / "here", 8)
    draw(tmp_path / "others", 9)
    run = tmp_path / "a run"
    data = ["--data", "folder", "--data.root", str(tmp_path / "here"), "--data.resolution", "8"]
    quick = ["--preset", "quick", "--data.batch_size", "4", "--metrics.every_kimg", "0", "--logger", "none"]
    lgen("fit", "--model", "gan", *data, *quick, "--kimg", "0.008", "--out", str(run))
    (tmp_path / "here").rename(tmp_path / "there")
    longer = ["fit", "--resume", str(run), "--kimg", "0.016", "--data.root"]
    refused = CliRunner().invoke(main, [*longer, str(tmp_path / "others")])
    assert refused.exit_code == 2
    assert "must see the same images" in refused.stderr
    assert f"more samples: lgen sample '{run}' --n" in lgen(*longer, str(tmp_path / "there"))  # as a shell takes it
    assert records.read(run / "metrics.jsonl")[-1]["images_seen"] == 16
    assert yaml.safe_load((run / "run.yaml").read_text())["data"]["root"] == str(tmp_path / "there")


def test_models_are_shown_with_everything_about_them() -> None:
    about = json.loads(lgen("models", "progan", "--json"))
    assert about["parameters"]["paper"] == {"generator": 23_079_115, "discriminator": 23_087_249}
    assert {"name", "distribution", "version", "paper", "settings", "presets", "parameters"} <= about.keys()
    assert about["settings"]["latent_dim"]["help"]


@pytest.fixture
def fresh_wandb() -> Iterator[None]:
    """It reads its environment once a process."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.usefixtures("fresh_wandb")
def test_a_tracker_that_cannot_begin_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # where a key would be kept
    said: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # answers, if only with an error
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        made = loggers.make(["csv", "wandb"], tmp_path, 0, said.append)
        server.shutdown()
    assert [type(one).__name__ for one in made] == ["CSVLogger"]
    assert "the run goes on without it: No API key configured" in said[0]
    assert "WANDB_MODE=offline" in said[1]


@pytest.mark.usefixtures("fresh_wandb")
def test_a_resumed_run_goes_on_in_the_same_run_of_the_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    ids = []
    for attempt in (0, 1):
        (logger,) = loggers.make(["wandb"], tmp_path, attempt, print)
        ids.append(logger.experiment.id)  # type: ignore[attr-defined]
        logger.experiment.finish()  # type: ignore[attr-defined]
    assert ids[0] == ids[1]


def test_wandb_is_imported_only_when_asked_for(tmp_path: Path) -> None:
    program = "import sys; from lightning_gen.cli import main\ntry: main()\nfinally: assert 'wandb' not in sys.modules"
    arguments = [*SMALL, "--metrics.every_kimg", "0", "--out", str(tmp_path / "r")]
    subprocess.run([sys.executable, "-c", program, "fit", *arguments], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_two_processes_share_one_clock_one_record_and_one_checkpoint(tmp_path: Path) -> None:
    arguments = [*SMALL, "--logger", "none", "--trainer.devices", "2", "--trainer.precision", "32-true"]
    command = [sys.executable, "-m", "lightning_gen", "fit", *arguments, "--out", str(tmp_path / "r")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, timeout=300)
    found = records.read(tmp_path / "r" / "metrics.jsonl")
    assert found[-1]["images_seen"] == 160
    assert len([r for r in found if r["images_seen"] == 160 and "loss_d" in r]) == 1
    model, _ = checkpoints.load_model(checkpoints.find(tmp_path / "r"))
    assert torch.isfinite(model.sample(4)).all()


@pytest.mark.parametrize("launcher", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_the_command_of_a_run_that_a_launcher_starts_again_resumes_it(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["fit", *SMALL[:-6], "--kimg", "0.032", "--log.every_kimg", "0.016", "--logger", "none"]
    command += ["--out", str(tmp_path / "run")]
    lgen(*command)
    assert CliRunner().invoke(main, command).exit_code == 2
    monkeypatch.setenv(launcher, "1")
    lgen(*command)
    assert records.read(tmp_path / "run" / "metrics.jsonl")[-1]["images_seen"] == 32
