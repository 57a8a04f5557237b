"""A run that looks after itself: what a sick one costs, and what becomes of it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from lightning_gen import checkpoints, images, records, report
from lightning_gen.callbacks.watch import Watch
from lightning_gen.cli import main
from lightning_gen.clock import Clock
from lightning_gen.data.shapes import Shapes
from lightning_gen.metrics.extractors import Features, Tiny
from lightning_gen.metrics.variety import Yardstick
from lightning_gen.models.dcgan import DCGAN
from lightning_gen.models.progan import ProGAN
from lightning_gen.module import ORIGIN
from lightning_gen.watch import Verdict, way_back

SMALL = ["--model", "dcgan", "--preset", "quick", "--model.width", "4", "--data.size", "96", "--data.batch_size", "16"]
SMALL += ["--kimg", "1.6", "--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--logger", "none"]
SMALL += ["--watch.every_kimg", "0.016", "--checkpoint.every_kimg", "0.16"]


def fit(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["fit", *map(str, arguments)])


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


@pytest.fixture
def nan_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch of NaN after 0.8 kimg, until the run is rolled back."""
    healthy = DCGAN.training_step

    def sick(self: DCGAN, batch: dict[str, Any], batch_idx: int) -> Any:
        if self.clock.images == 800 and self.rollbacks == 0:
            batch = {**batch, "image": batch["image"] * float("nan")}
        return healthy(self, batch, batch_idx)

    monkeypatch.setattr(DCGAN, "training_step", sick)


@pytest.mark.usefixtures("nan_once")
def test_a_nan_stops_the_run_with_code_3_and_says_where(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = fit(*SMALL, "--out", run)
    assert done.exit_code == 3, done.output + repr(done.exception)
    assert "stopped by the watch at 0.8" in done.output
    (event,) = [e for e in events(run) if e["severity"] == "stop"]
    assert (event["rule"], event["action"]) == ("not-finite", "stop")
    assert {"images_seen", "rule", "severity", "action", "message", "values"} <= event.keys()
    assert records.read(run / "metrics.jsonl")[-1]["images_seen"] < 900  # seen within a twentieth of the run
    healthy = checkpoints.read(run / "checkpoints" / "healthy.ckpt")["state_dict"]
    assert all(bool(torch.isfinite(v).all()) for v in healthy.values() if isinstance(v, torch.Tensor))


@pytest.mark.usefixtures("nan_once")
def test_a_rollback_goes_on_from_the_last_healthy_checkpoint_at_lower_rates(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = fit(*SMALL, "--watch.action", "rollback", "--out", run)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "rolled back to 0." in done.output
    last = checkpoints.read(run / "checkpoints" / "last.ckpt")
    state = last["state_dict"]["_extra_state"]
    assert (state["images_seen"], state["rollbacks"], state["lr_scale"]) == (1600, 1, 0.3)
    assert all(bool(torch.isfinite(v).all()) for v in last["state_dict"].values() if isinstance(v, torch.Tensor))
    kept = records.read(run / "metrics.jsonl")
    assert [r["images_seen"] for r in kept] == sorted(r["images_seen"] for r in kept)
    assert kept[-1]["attempt"] == 1
    assert all(r["loss_d"] is not None for r in kept if "loss_d" in r)  # the sick records are superseded


@pytest.mark.parametrize(("action", "code"), [("rollback", 130), ("stop", 3)])
@pytest.mark.usefixtures("nan_once")
def test_a_signal_while_the_watch_gives_up_is_heard_and_claims_no_checkpoint_that_is_not_there(
    action: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Watch._tell

    def and_signal(self: Watch, trainer: Any, module: Any, verdict: Verdict) -> None:
        told(self, trainer, module, verdict)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Watch, "_tell", and_signal)
    run = tmp_path / "run"
    done = fit(*SMALL, "--watch.action", action, "--out", run)
    assert done.exit_code == code, done.output + repr(done.exception)
    state = checkpoints.read(run / "checkpoints" / "last.ckpt")["state_dict"]["_extra_state"]
    assert state["rollbacks"] == (1 if action == "rollback" else 0)
    said = f"stopped by SIGTERM at {state['images_seen'] / 1000:g} kimg, checkpoint saved"
    assert (said in done.output) == (action == "rollback"), done.output


@pytest.mark.usefixtures("nan_once")
def test_a_run_that_is_to_roll_back_only_since_it_was_resumed_has_where_to_go(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fit(*SMALL, "--checkpoint.every_kimg", 0, "--kimg", "0.8", "--out", run).exit_code == 0
    assert not (run / "checkpoints" / "healthy.ckpt").exists()
    done = fit("--resume", run, "--kimg", "0.96", "--watch.action", "rollback")
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "rolled back to 0.8 kimg" in done.output


def test_a_lost_score_goes_back_to_the_best_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fit(*SMALL, "--metrics.every_kimg", 0.8, "--metrics.samples", 16, "--out", run).exit_code == 0
    folder = run / "checkpoints"
    best = checkpoints.read(folder / "best.ckpt")["state_dict"]["_extra_state"]["images_seen"]
    assert checkpoints.roll_back(folder, 0.3, "best") == best
    state = checkpoints.read(folder / "last.ckpt")["state_dict"]["_extra_state"]
    assert (state["images_seen"], state["rollbacks"], state["lr_scale"]) == (best, 1, 0.3)
    assert checkpoints.roll_back(folder, 0.3) == 1280  # of another verdict: healthy, though it is older than a rollback


def test_a_rollback_leaves_alone_what_other_callbacks_call_their_best(tmp_path: Path) -> None:
    theirs = {"best": "cherry"}
    ours = [{"best": best, "of": ["fid/tiny", 64]} for best in (3.0, 2.0)]
    for name, own in zip(("healthy", "last"), ours, strict=True):
        content = {
            ORIGIN: {},
            "state_dict": {"_extra_state": {"images_seen": 16, "rollbacks": 0, "lr_scale": 1.0}},
            "callbacks": {"Taster": theirs, "Checkpoint": own},
        }
        checkpoints.AtomicCheckpointIO().save_checkpoint(content, tmp_path / "checkpoints" / f"{name}.ckpt")
    assert checkpoints.roll_back(tmp_path / "checkpoints", 0.3) == 16
    kept = checkpoints.read(tmp_path / "checkpoints" / "last.ckpt")["callbacks"]
    assert kept == {"Taster": theirs, "Checkpoint": ours[1]}


def test_a_run_lost_in_its_first_half_begins_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fit(*SMALL, "--watch.action", "rollback", "--out", run).exit_code == 0
    dead = Verdict("stop", "vanished-gradient", "collapsed", 700.0, "images", {}, "", "")
    assert way_back(dead, budget=1600) == "beginning"
    assert checkpoints.roll_back(run / "checkpoints", 0.3, "beginning") == 0


@pytest.mark.parametrize(
    ("rule", "share", "place"),
    [
        ("mode-collapse", 0.08, "beginning"),
        ("explosion", 0.5, "beginning"),
        ("explosion", 0.51, "healthy"),
        ("not-finite", 0.05, "healthy"),
        ("score-collapse", 0.3, "best"),
        ("score-collapse", 0.9, "best"),
    ],
)
def test_where_a_lost_run_goes_on_depends_on_what_was_lost(rule: str, share: float, place: str) -> None:
    assert way_back(Verdict("stop", rule, "collapsed", share * 1e5, "images", {}, "", ""), budget=1e5) == place


def test_a_run_that_walks_into_the_ditch_again_begins_anew_and_stops_after_its_last_rollback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = DCGAN.training_step

    def always(self: DCGAN, batch: dict[str, Any], batch_idx: int) -> Any:
        if self.clock.images >= 1200:
            batch = {**batch, "image": batch["image"] * float("nan")}
        return healthy(self, batch, batch_idx)

    monkeypatch.setattr(DCGAN, "training_step", always)
    done = fit(*SMALL, "--watch.action", "rollback", "--watch.rollbacks", 2, "--out", tmp_path / "run")
    assert done.exit_code == 3, done.output + repr(done.exception)
    assert re.findall("rolled back to (.*) kimg", done.output) == ["0.8", "0"]
    told = [event["action"] for event in events(tmp_path / "run") if event["severity"] == "stop"]
    assert told == ["rollback", "rollback", "stop"]
    assert report.read(tmp_path / "run").state == "stopped by the watch (not-finite)"


def test_the_watch_says_the_same_of_labels_live_and_in_a_replay(tmp_path: Path) -> None:
    for label, count in (("a", 60), ("b", 1)):
        (tmp_path / "two" / label).mkdir(parents=True)
        for i in range(count):
            levels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(levels).save(tmp_path / "two" / label / f"{i}.png")
    done = fit(
        "--model", "cgan", "--model.width", "8", "--data", "folder", "--data.root", tmp_path / "two", "--kimg", "1.6",
        "--data.batch_size", "16", "--watch.every_kimg", "0.16", "--metrics.every_kimg", "0", "--log.every_kimg", "0",
        "--samples.every_kimg", "0", "--logger", "none", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.exit_code == 3, done.output + repr(done.exception)
    (event,) = events(tmp_path / "run")
    replayed = CliRunner().invoke(main, ["watch", str(tmp_path / "run"), "--json"])
    assert event["rule"] == json.loads(replayed.output)["rule"] == "same-labels"
    assert event["images_seen"] == json.loads(replayed.output)["alarm_at"]


def test_labels_that_were_counted_before_a_resume_count_after_it() -> None:
    before, after = Watch(1.0), Watch(1.0)
    before._labels = torch.tensor([3, 1])
    after.load_state_dict(before.state_dict())
    assert after._labels is not None
    assert after._labels.tolist() == [3, 1]


def test_an_event_holds_no_number_that_json_does_not_know(tmp_path: Path) -> None:
    trainer = SimpleNamespace(
        is_global_zero=True, default_root_dir=tmp_path, global_step=1, loggers=[records.RecordLogger(tmp_path, 2)]
    )
    verdict = Verdict("warn", "not-finite", "diverged", 16.0, "images", {"loss_d": float("inf"), "loss_g": 1.0}, "", "")
    Watch(1.0)._tell(trainer, SimpleNamespace(clock=Clock(16)), verdict)  # type: ignore[arg-type]
    assert events(tmp_path)[0]["values"] == {"loss_d": None, "loss_g": 1.0}


@pytest.mark.usefixtures("nan_once")
def test_a_watch_that_only_warns_lets_the_run_go_on(tmp_path: Path) -> None:
    done = fit(*SMALL, "--watch.action", "warn", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "WARNING  at 0.8" in done.output


def test_a_healthy_run_hears_nothing_and_keeps_a_healthy_checkpoint(tmp_path: Path) -> None:
    done = fit(*SMALL, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "run" / "events.jsonl").exists()
    healthy = checkpoints.read(tmp_path / "run" / "checkpoints" / "healthy.ckpt")
    assert healthy["state_dict"]["_extra_state"]["images_seen"] == 1280  # two before the last


def test_rules_that_a_model_gives_nothing_to_judge_by_are_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = DCGAN.training_step

    def silent(self: DCGAN, batch: dict[str, Any], batch_idx: int) -> Any:
        return {k: v for k, v in whole(self, batch, batch_idx).items() if k != "grad_norm_g"}

    monkeypatch.setattr(DCGAN, "training_step", silent)
    first = fit(*SMALL, "--kimg", "0.4", "--out", tmp_path / "run")
    assert first.output.count("the watch cannot judge by vanished-gradient: ") == 1
    again = fit("--resume", tmp_path / "run", "--kimg", "0.8")
    assert "the watch cannot judge" not in again.output


def test_samples_are_looked_at_nine_times_in_the_first_tenth_of_a_run(tmp_path: Path) -> None:
    often = [
        "--watch.looks_after_kimg",
        0,
        "--kimg",
        4,
        "--watch.every_kimg",
        0.004,
        "--data.batch_size",
        4,
        "--watch.action",
        "warn",
    ]
    fit(*SMALL, *often, "--out", tmp_path / "run")
    looks = [r["images_seen"] / 4000 for r in records.read(tmp_path / "run" / "metrics.jsonl") if "diversity" in r]
    assert looks == pytest.approx([i / 100 for i in range(2, 11)] + [i / 20 for i in range(3, 21)])


def test_a_short_run_and_a_model_with_a_likelihood_are_not_taken_for_collapsed(tmp_path: Path) -> None:
    quiet = ["--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--logger", "none"]
    done = fit("--model", "vae", "--data.size", "96", "--kimg", "5", *quiet, "--out", tmp_path / "vae")
    assert done.exit_code == 0, done.output
    fit(*SMALL, "--kimg", "5.2", "--watch.every_kimg", "0.005", "--out", tmp_path / "run")
    for run, looks in (("vae", []), ("run", [4, 5])):
        seen = [r["images_seen"] / 1000 for r in records.read(tmp_path / run / "metrics.jsonl") if "diversity" in r]
        assert seen == pytest.approx(looks, abs=0.05)


def test_a_model_that_grows_is_compared_with_real_images_of_its_present_size() -> None:
    """Seen at 4x4 pixels, real images are as varied as samples that are the best of what can be drawn there."""
    model = ProGAN(**ProGAN.presets["quick"])
    real, best = Shapes(size=512).read(np.arange(512))["image"].chunk(2)
    rules, eyes = Watch(), Tiny()
    rules._eyes, rules._real = eyes, images.from_uint8(real)
    found = {}
    for kimg in (0, 9, 15, 100):
        model.clock.images = 1000 * kimg
        drawn = images.to_uint8(model.as_drawn_now(images.from_uint8(best)))
        found[kimg] = rules._yardstick(model).compare(eyes(drawn))
        assert found[kimg]["diversity"] == pytest.approx(1.0, abs=0.1)
        assert found[kimg]["duplicates"] < 0.1
    whole = rules._yardstick(model)
    assert rules._yardstick(model) is whole, "a grown model's is measured once"
    model.clock.images = 0
    tiny = images.to_uint8(model.as_drawn_now(images.from_uint8(best)))
    assert whole.compare(eyes(tiny))["diversity"] < 0.75, "which the whole images would take for poor"


def test_variety_is_one_for_real_images_and_none_for_copies() -> None:
    generator = torch.Generator().manual_seed(0)
    real, other = (
        Features(torch.randn(400, 16, generator=generator), torch.randn(400, 10, generator=generator)) for _ in range(2)
    )
    yardstick = Yardstick.of(real)
    same = yardstick.compare(other)
    assert same["diversity"] == pytest.approx(1.0, abs=0.05)
    assert same["duplicates"] < 0.05
    assert same["class_spread"] == pytest.approx(1.0, abs=0.05)
    assert other.logits is not None
    one = Features(other.features[:1].expand(400, -1), other.logits[:1].expand(400, -1))
    assert yardstick.compare(one) == {"diversity": 0.0, "duplicates": 1.0, "class_spread": pytest.approx(0.1, abs=0.01)}


def test_one_picture_for_each_label_is_no_near_duplicate_and_one_for_all_is() -> None:
    generator = torch.Generator().manual_seed(0)
    yardstick = Yardstick.of(Features(torch.randn(400, 8, generator=generator), None))
    labels = torch.arange(120) % 10
    one_each = Features(torch.randn(10, 8, generator=generator)[labels], None)
    assert yardstick.compare(one_each)["duplicates"] == 1.0
    assert yardstick.compare(one_each, labels)["duplicates"] < 0.3
    same = Features(one_each.features[:1].expand(120, -1), None)
    assert yardstick.compare(same, labels)["duplicates"] == 1.0
    assert yardstick.compare(same, torch.zeros(120, dtype=torch.int64))["duplicates"] == 1.0  # one label was asked for


def test_of_few_pictures_to_translate_each_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    compare = Yardstick.compare

    def seen(self: Yardstick, samples: Features, labels: torch.Tensor | None = None) -> dict[str, float]:
        looked.append(len(samples.features))
        return compare(self, samples, labels)

    monkeypatch.setattr(Yardstick, "compare", seen)
    (tmp_path / "few").mkdir()
    for i in range(6):
        levels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / "few" / f"{i}.png")
    done = fit(
        "--model", "srgan", "--preset", "quick", "--model.width", "4", "--model.blocks", "1", "--kimg", "0.032",
        "--data.root", tmp_path / "few", "--data.batch_size", "4", "--watch.every_kimg", "0.016", "--watch.looks", "1",
        "--watch.looks_after_kimg", "0.016", "--metrics.every_kimg", "0", "--logger", "none", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert set(looked) == {6}, "again from the first picture on they would be duplicates, by no fault of the model"
