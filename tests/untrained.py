"""Checkpoints of models that were never trained, for tests of what the verbs do with one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_gen import registry
from lightning_gen.checkpoints import AtomicCheckpointIO
from lightning_gen.module import ORIGIN, GenerativeModule


def model(name: str, settings: dict[str, Any]) -> GenerativeModule:
    torch.manual_seed(0)
    made: GenerativeModule = registry.load(name)(**settings)
    return made


def checkpoint(name: str, settings: dict[str, Any], folder: Path, class_names: Sequence[str] = ()) -> str:
    made = model(name, settings)
    content = {"state_dict": made.state_dict(), "hyper_parameters": dict(made.hparams)}
    content[ORIGIN] = {
        "model": name,
        "distribution": "lightning-gen",
        "version": "0",
        "class_names": list(class_names),
    }
    AtomicCheckpointIO().save_checkpoint(content, folder / f"{name}.ckpt")
    return str(folder / f"{name}.ckpt")
