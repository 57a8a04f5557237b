"""A model as one safetensors file: tensors, and a line of JSON that says which model they are. Nothing in it is code.

All that `load_state_dict` takes is kept, averaged networks and discriminators too, so what a checkpoint can be sampled,
scored, projected and exported for, the file can. What only training needs, optimizers and loops, stays behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lightning_gen import files
from lightning_gen.errors import UserError
from lightning_gen.module import ORIGIN

SUFFIX = ".safetensors"
KEY = "lightning_gen"
"""Of the file's metadata, under which stand `origin`, `hyper_parameters` and `extra_state`."""


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write the model of a checkpoint's `content`; whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    state = content["state_dict"]
    about = {
        "origin": content[ORIGIN],
        "hyper_parameters": content["hyper_parameters"],
        "extra_state": {key: value for key, value in state.items() if not isinstance(value, Tensor)},
    }
    # copies: the format knows neither two names of one tensor nor channels that come last
    tensors = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
        if isinstance(value, Tensor)
    }
    try:
        files.write(path, save(tensors, metadata={KEY: json.dumps(about), "format": "pt"}))
    except OSError as reason:
        raise UserError(f"cannot write {path}: {reason.strerror or reason}") from reason


def read(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """The content as a checkpoint has it: `state_dict`, `hyper_parameters` and the origin.

    Raises:
        UserError: no such file, a damaged one, or one that lightning_gen did not write.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            about = json.loads((file.metadata() or {}).get(KEY, "null"))
            state: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as reason:
        raise UserError(f"{path} is damaged or no safetensors file ({reason})") from reason
    if not isinstance(about, dict) or not {"origin", "hyper_parameters", "extra_state"} <= set(about):
        raise UserError(f"{path} was not written by lightning_gen: it does not say which model it holds")
    return {
        "state_dict": state | about["extra_state"],
        "hyper_parameters": about["hyper_parameters"],
        ORIGIN: about["origin"],
    }
