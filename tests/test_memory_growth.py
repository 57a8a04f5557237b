"""A run of many steps takes no more memory at its end than near its beginning."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import pytorch_lightning as pl

from lightning_gen import experiment, registry, settings

STATM = Path("/proc/self/statm")
WARM, BATCH = 200, 4
BOUND_MB = 8
"""In all; a step that kept its images of 8 pixels would keep 2 MB in 800 steps, one that kept its graph 20."""


class Memory(pl.Callback):
    """Megabytes that the process holds, every hundred steps."""

    def __init__(self) -> None:
        self.held: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: object) -> None:
        if trainer.global_step >= WARM and trainer.global_step % 100 == 0:
            gc.collect()
            self.held.append(int(STATM.read_text().split()[1]) * 4096 / 2**20)


@pytest.mark.skipif(not STATM.exists(), reason="asks Linux how much memory the process holds")
@pytest.mark.parametrize("steps", [1000, pytest.param(10_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("model", ["gan", "vae"])
def test_memory_does_not_grow_with_the_steps(
    model: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    make = registry.make
    monkeypatch.setattr(
        registry, "make", lambda name, kind, **values: memory if name == "log" else make(name, kind, **values)
    )
    small = {"gan": ["--model.width", "4"], "vae": ["--model.widths", "[4]", "--model.hidden", "[8]"]}[model]
    kimg = steps * BATCH / 1000
    chosen = settings.resolve(
        [*small, "--data.resolution", "8", "--data.size", "100", "--data.batch_size", str(BATCH), "--kimg", str(kimg),
         "--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--checkpoint.every_kimg", "0",
         "--watch.every_kimg", "0"],
        model=model, logger=("none",),
    )  # fmt: skip
    experiment.fit(chosen, tmp_path / "run", say=lambda line: None)
    assert len(memory.held) == (steps - WARM) // 100 + 1
    assert memory.held[-1] - min(memory.held[:3]) < BOUND_MB
