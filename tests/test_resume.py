"""kill -9 at any moment, resume, and every bit is where the uninterrupted run has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gen import checkpoints, records

COMMON = ["--data.size", "100", "--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--logger", "none"]
# 40 steps of 16 images over 100 rows: both checkpoint and kill fall into the middle of an epoch
COMMON += ["--data.batch_size", "16", "--log.every_kimg", "0.016", "--kimg", "0.64"]
RUNS = {
    "dcgan": ["--model", "dcgan", "--preset", "quick", "--model.width", "8"],
    # 0.2 kimg a phase: the checkpoint at 0.32 kimg stands in the fade-in of the second stage
    "progan": ["--model", "progan", "--preset", "quick", "--model.width", "8", "--model.fade_kimg", "0.2",
               "--model.stable_kimg", "0.2", "--model.critic_steps", "1"],
    "progan with two critic steps": ["--model", "progan", "--preset", "quick", "--model.width", "8",
                                     "--model.loss", "wasserstein", "--model.critic_steps", "2",
                                     "--kimg", "1.28", "--checkpoint.every_kimg", "0.64"],
}  # fmt: skip


def lgen(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from lightning_gen.cli import main; main()", *arguments]


def state(run: Path) -> dict[str, Any]:
    content = checkpoints.read(run / "checkpoints" / "last.ckpt")
    return {"weights": content["state_dict"], "optimizers": content["optimizer_states"], "step": content["global_step"]}


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{where}: other keys"]
        return [line for key in a for line in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple):
        return [line for i, (x, y) in enumerate(zip(a, b, strict=True)) for line in differences(x, y, f"{where}/{i}")]
    same = torch.equal(a, b) if isinstance(a, Tensor) else a == b
    return [] if same else [where]


def losses(run: Path) -> list[dict[str, Any]]:
    kept = ("images_seen", "step", "loss_d", "loss_g", "grad_norm_d", "grad_norm_g", "logits_real", "logits_fake")
    return [{key: record[key] for key in kept} for record in records.read(run / "metrics.jsonl") if "loss_d" in record]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_resumes_bit_identically(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [*COMMON, "--checkpoint.every_kimg", "0.32", *RUNS[name]]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    whole = subprocess.Popen(
        lgen("fit", *arguments, "--out", str(straight)), env=environment, stdout=subprocess.DEVNULL
    )
    cut = subprocess.Popen(lgen("fit", *arguments, "--out", str(killed)), env=environment, stdout=subprocess.DEVNULL)
    while not (killed / "checkpoints" / "last.ckpt").exists():
        assert cut.poll() is None, "the run ended without a checkpoint"
        time.sleep(0.002)
    cut.send_signal(signal.SIGKILL)
    assert cut.wait() == -signal.SIGKILL, "the run ended before it was killed"
    subprocess.run(lgen("fit", "--resume", str(killed)), env=environment, check=True, stdout=subprocess.DEVNULL)
    assert whole.wait() == 0
    assert differences(state(straight), state(killed)) == []
    assert losses(straight) == losses(killed)
    assert max(record["attempt"] for record in records.read(killed / "metrics.jsonl")) == 1
