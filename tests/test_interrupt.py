"""A signal costs a batch, not a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from lightning_gen import checkpoints
from lightning_gen.callbacks.interrupt import Interrupt, Stopped
from lightning_gen.callbacks.metrics import Metrics
from lightning_gen.cli import main
from lightning_gen.signals import SIGNALS

LONG = ["--model", "dcgan", "--preset", "quick", "--model.width", "4", "--data.size", "96", "--data.batch_size", "16"]
LONG += [
    "--update.lr_decay",
    "0",
    "--metrics.every_kimg",
    "0",
    "--samples.every_kimg",
    "0",
    "--logger",
    "none",
    "--log.every_kimg",
    "0.016",
]


def start(*arguments: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a shell has it."""
    command = [sys.executable, "-m", "lightning_gen", "fit", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_images(process: subprocess.Popen[str], run: Path) -> None:
    deadline = time.monotonic() + 120
    while trained(run) < 100 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def gone(group: int) -> bool:
    """Whether no process of the group is there, or only for a moment: one that has ended waits to be reaped."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def trained(run: Path) -> int:
    """Images that the newest record speaks of."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["images_seen"] if lines else 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_saves_ends_with_130_and_the_run_goes_on_exactly(name: str, tmp_path: Path) -> None:
    run, straight = tmp_path / "run", tmp_path / "straight"
    process = start(*LONG, "--kimg", "1000", "--checkpoint.every_kimg", "500", "--out", str(run))
    wait_for_images(process, run)
    process.send_signal(getattr(signal, name))
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert name in said
    assert f"--resume {run}" in said
    last = checkpoints.read(run / "checkpoints" / "last.ckpt")
    seen = last["state_dict"]["_extra_state"]["images_seen"]
    assert 0 < seen < 1_000_000
    if name != "SIGTERM":  # once is enough for the rest
        return
    kimg = str((seen + 160) / 1000)
    for arguments in (["--resume", str(run)], [*LONG, "--out", str(straight)]):
        again = start(*arguments, "--kimg", kimg)
        again.communicate(timeout=300)
        assert again.returncode == 0
    ours, theirs = (checkpoints.read(r / "checkpoints" / "last.ckpt")["state_dict"] for r in (run, straight))
    for key, value in ours.items():
        same = torch.equal(value, theirs[key]) if isinstance(value, torch.Tensor) else value == theirs[key]
        assert same, key


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    process = start(*LONG, "--kimg", "1000", "--out", str(tmp_path / "run"))
    wait_for_images(process, tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGTERM, 130)  # 130 where the batch ended between the two


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_to_all_of_its_processes_ends_a_run_with_workers_as_well(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*LONG, "--kimg", "1000", "--data.workers", "2", "--out", str(run))
    wait_for_images(process, run)
    os.killpg(process.pid, getattr(signal, name))  # as a terminal does at Ctrl-C
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert f"stopped by {name}" in said
    assert "checkpoint saved" in said
    assert "Traceback" not in said
    assert checkpoints.images_seen(checkpoints.read(run / "checkpoints" / "last.ckpt")) > 0
    assert gone(process.pid)  # no loader is left behind


def test_a_loader_ends_with_the_second_signal() -> None:
    code = "import os, signal, time; from lightning_gen.signals import leave_to_the_run; leave_to_the_run(0);"
    code += "os.kill(os.getpid(), signal.SIGINT); print('goes on', flush=True); os.kill(os.getpid(), signal.SIGTERM)"
    ended = subprocess.run([sys.executable, "-c", f"{code}; time.sleep(60)"], capture_output=True, text=True)
    assert ended.stdout == "goes on\n"
    assert ended.returncode == -signal.SIGTERM


SLOW = """
import time
from lightning_gen.callbacks.samples import Samples
from lightning_gen.cli import main

def act(self, trainer, module):
    print("evaluating", flush=True)
    time.sleep(600)

Samples.act = act
main()
"""
"""`lgen` with a first grid that takes long."""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_before_the_first_step_ends_with_130_and_says_that_nothing_was_saved(
    name: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    slow = [argument if argument != "--samples.every_kimg" else "--samples.seed" for argument in LONG]  # draws grids
    command = [sys.executable, "-c", SLOW, "fit", *slow, "--kimg", "0.032", "--out", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    before = list(iter(process.stdout.readline, "evaluating\n"))
    assert process.poll() is None, before
    process.send_signal(getattr(signal, name))
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert f"stopped by {name} before the first step: there was nothing to save" in said
    assert not (run / "checkpoints").exists()
    if name == "SIGTERM":  # once is enough
        again = start("--resume", str(run), "--samples.every_kimg", "0")
        said, _ = again.communicate(timeout=300)
        assert again.returncode == 0, said
        assert (run / "checkpoints" / "last.ckpt").exists()


def test_a_signal_beside_the_last_scores_leaves_a_finished_run_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = Metrics.act

    def act(self: Metrics, trainer: Any, module: Any) -> None:
        if module.clock.images == module.clock.budget:
            signal.raise_signal(signal.SIGTERM)
        scored(self, trainer, module)

    monkeypatch.setattr(Metrics, "act", act)
    small = [*LONG[: LONG.index("--metrics.every_kimg")], "--samples.every_kimg", "0", "--logger", "none"]
    small += ["--metrics.samples", "64"]
    result = CliRunner().invoke(main, ["fit", *small, "--kimg", "0.032", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "fid/tiny" in result.output
    assert "stopped" not in result.output


def test_outside_of_a_run_signals_are_whose_they_were() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(Stopped), Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
    assert interrupt.received == "SIGTERM"
    assert [signal.getsignal(number) for number in SIGNALS] == before
