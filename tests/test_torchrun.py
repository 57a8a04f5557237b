"""Processes that torchrun starts: two nodes of one process each, here on one machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_gen import checkpoints, launch, records

RUN = ["--model", "dcgan", "--preset", "quick", "--model.width", "4", "--data.size", "96", "--data.batch_size", "16"]
RUN += ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.precision", "32-true", "--logger", "none"]
RUN += ["--log.every_kimg", "0.016", "--checkpoint.every_kimg", "0.064", "--samples.count", "4"]


@pytest.mark.parametrize(("rank", "first"), [("", True), ("0", True), ("1", False)])
def test_a_rank_that_is_empty_is_none(monkeypatch: pytest.MonkeyPatch, rank: str, first: bool) -> None:
    monkeypatch.setenv("RANK", rank)
    assert launch.is_first_process() is first


def nodes(run: Path, *arguments: str, restarts: int = 0) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--max-restarts", str(restarts)]
    command += ["-m", "lightning_gen", "fit", *RUN, *arguments, "--out", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return [subprocess.Popen(command, env=environment, start_new_session=True, **pipes) for _ in range(2)]


def worker_of(agent: int) -> int | None:
    """The process that a torchrun agent started."""
    children = Path(f"/proc/{agent}/task/{agent}/children")
    found = children.read_text().split() if children.exists() else []
    return int(found[0]) if found else None


@pytest.mark.full
def test_two_nodes_train_score_and_survive_the_loss_of_a_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    agents = nodes(run, "--kimg", "3.2", "--metrics.samples", "64", "--metrics.every_kimg", "1.6", restarts=3)
    last = run / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 180
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    victim = worker_of(agents[1].pid)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    said = [agent.communicate(timeout=300)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(text[-9000:] for text in said)
    found = records.read(run / "metrics.jsonl")
    assert found[-1]["images_seen"] == 3200
    assert found[-1]["attempt"] == 1
    assert {r["images_seen"] for r in found if "fid/tiny" in r} == {0, 1600, 3200}
    assert checkpoints.read(last)["state_dict"]["_extra_state"]["images_seen"] == 3200


@pytest.mark.full
def test_a_directory_that_holds_a_run_is_refused_under_torchrun_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.yaml").write_text("model: {name: dcgan}\n")
    agents = nodes(run, "--kimg", "0.16")
    said = [agent.communicate(timeout=180)[0] for agent in agents]
    assert "already holds a run" in "".join(said)
    assert (run / "run.yaml").read_text() == "model: {name: dcgan}\n"
