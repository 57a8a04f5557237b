"""Two processes do what one process does that takes their micro-batches in turn and averages the gradients."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader

from lightning_gen import checkpoints, experiment, records, registry, settings
from lightning_gen.augment import AugmentOptions
from lightning_gen.data.stream import Stream, loader
from lightning_gen.update import UpdateOptions

RANKS, STEPS, BATCH = 2, 50, 8
PATTERNS = {
    "dcgan": ["--model.width", "4"],
    # 50 steps of 8 images: through the first fade-in and into the second
    "progan": ["--model.width", "8", "--model.fade_kimg", "0.1", "--model.stable_kimg", "0.1"],
    "wgan-gp": ["--model.critic_steps", "2"],
    "cgan-projection": [],
    "vae": ["--model.ema_halflife_kimg", "0.1", "--update.max_norm", "100"],
    # lazy updates of their own, and means that run over all processes
    "stylegan2": ["--model.width", "8", "--model.width_base", "64", "--model.path_penalty", "2"],
    "r3gan": ["--model.width", "8", "--model.width_base", "64", "--model.group_width", "4"],
}
"""One model for each way of training, and settings that show it in 50 small steps."""
OTHERS = [
    part.name for part in registry.parts("models") if part.distribution == registry.OURS and part.name not in PATTERNS
]
LOSSES = ("loss", "loss_d", "loss_g")


def asked(model: str) -> list[str]:
    """The settings of a run of this model."""
    cls = registry.load(model)
    small = [f"--model.{key}={list(v) if isinstance(v, tuple) else v}" for key, v in cls.checked.items()]
    data = inspect.signature(registry.load(cls.usual_data, "data")).parameters
    some = ["--data.size", "96"] if "size" in data else []
    return [*some, "--data.batch_size", str(BATCH), "--trainer.precision", "32-true", *PATTERNS.get(model, small)]


class _InTurn(SingleDeviceStrategy):
    """Stands where the process group stands: waits for the other replica, then both take the mean."""

    def __init__(self, meeting: _Meeting, rank: int):
        super().__init__(device="cpu")
        self.meeting, self.rank = meeting, rank

    @torch.no_grad()
    def average(self, tensors: list[torch.Tensor]) -> None:
        self.meeting.brought[self.rank] = tensors
        self.meeting.wait()
        means = [sum(parts) / RANKS for parts in zip(*self.meeting.brought, strict=True)]  # type: ignore[arg-type]
        self.meeting.wait()
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean)

    def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
        self.meeting.brought[self.rank] = tensor
        self.meeting.wait()
        both = torch.stack(self.meeting.brought)
        self.meeting.wait()
        return both


class _Meeting:
    def __init__(self) -> None:
        self.brought: list[Any] = [None] * RANKS
        self.wait = threading.Barrier(RANKS, timeout=120).wait


class _Keep(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[tuple[float, ...]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *rest: Any) -> None:
        self.losses.append(tuple(outputs[key].item() for key in LOSSES if key in outputs))


def replica(model_name: str, rank: int, meeting: _Meeting) -> tuple[Any, list[tuple[float, ...]]]:
    resolved = settings.resolve(asked(model_name), model=model_name, preset="quick")
    source = experiment.build_source(resolved)
    torch.manual_seed(resolved.values["seed"])
    model = experiment.build_model(resolved, source)
    # what a process of a group would be told by its trainer
    model.__class__ = type("Ranked", (type(model),), {"global_rank": rank, "_world_size": lambda self: RANKS})
    model.clock.budget = STEPS * BATCH * model.critic_steps
    model.update_options = UpdateOptions(**resolved.values["update"])
    model.augment = AugmentOptions(**resolved.values["augment"]).make()
    stream = Stream(len(source), BATCH, seed=0, chunks=model.critic_steps, rank=rank, ranks=RANKS)
    rows: DataLoader[Any] = loader(source, stream, workers=0, pin_memory=False)
    keep = _Keep()
    trainer = pl.Trainer(
        strategy=_InTurn(meeting, rank),
        max_epochs=-1,
        max_steps=STEPS,
        precision="32-true",
        logger=False,
        callbacks=[keep],
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return (trainer, model, rows), keep.losses


def one_process(model_name: str) -> tuple[dict[str, Any], list[tuple[float, ...]]]:
    """Both replicas in threads of this process, in step at every update."""
    meeting = _Meeting()
    made = [replica(model_name, rank, meeting) for rank in range(RANKS)]  # one after the other: they draw weights
    threads = [threading.Thread(target=trainer.fit, args=(model, rows)) for (trainer, model, rows), _ in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (_, model, _), losses = made[0]
    return model.state_dict(), losses


@pytest.mark.parametrize("model", [*PATTERNS, *(pytest.param(name, marks=pytest.mark.full) for name in OTHERS)])
def test_two_processes_have_the_curve_of_averaged_micro_batches(model: str, tmp_path: Path) -> None:
    expected, losses = one_process(model)
    assert len(losses) == STEPS
    steps = (
        STEPS
        * BATCH
        * settings.resolve(asked(model), model=model, preset="quick").values["model"].get("critic_steps", 1)
    )
    command = [sys.executable, "-m", "lightning_gen", "fit", "--model", model, "--preset", "quick", *asked(model)]
    command += [
        "--kimg",
        str(steps / 1000),
        "--trainer.devices",
        "2",
        "--logger",
        "none",
        "--out",
        str(tmp_path / "run"),
    ]
    command += ["--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--log.every_kimg", "0.008"]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [tuple(r[key] for key in LOSSES if key in r) for r in records.read(tmp_path / "run" / "metrics.jsonl")]
    found = [losses for losses in told if losses]
    assert len(found) == STEPS
    for step, (here, there) in enumerate(zip(found, losses, strict=True)):
        assert here == pytest.approx(there, rel=1e-5, abs=1e-6), f"step {step}"
    weights = checkpoints.read(tmp_path / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    for name, value in expected.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            assert torch.allclose(weights[name], value, rtol=1e-4, atol=1e-5), name
