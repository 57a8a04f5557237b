"""A generator as a graph that other programs run: ONNX or TorchScript, compared with the model before it is written."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_gen import files
from lightning_gen.errors import UserError
from lightning_gen.module import GenerativeModule

TOLERANCE = 1e-4
"""Largest difference between the graph's images and the model's, in units of [-1, 1]."""
TRACED, CHECKED = 3, 5
"""Rows of the batch that the graph is made with, and of another one that it is compared on."""


@dataclass(frozen=True)
class Written:
    """What a graph takes and how near it is."""

    inputs: dict[str, tuple[int, ...]]
    """Shape of a row of each."""
    image_shape: tuple[int, ...]
    difference: float


class Drawing(nn.Module):
    """`generate` as a function of tensors alone: (latents[, label]) to images, or (pictures[, label]) to pictures.

    It holds the model's networks and not the model, whose trainer no graph has.
    """

    def __init__(self, model: GenerativeModule):
        super().__init__()
        for name, network in model.named_children():
            self.add_module(name, network)
        self._generate: Callable[..., Tensor]
        object.__setattr__(self, "_generate", model.generate)  # not a module of ours: its networks are
        self._view = model.views[0] if model.translates else None

    def forward(self, first: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (n, *image_shape) in [-1, 1]: what networks without a tanh draw beyond is cut off here, since another
        program's bytes would overflow."""
        asked = None if label is None else {"label": label}
        if self._view is not None:
            drawn = self._generate(None, {self._view: first, **(asked or {})})
        else:
            drawn = self._generate(first, asked)
        return drawn.clamp(-1, 1)


def inputs(model: GenerativeModule, n: int, seed: int) -> dict[str, Tensor]:
    """What the graph of `model` takes, `n` rows: `latents`, or `pictures` in [-1, 1], and `label`s where it has any."""
    if model.translates:
        generator = torch.Generator().manual_seed(seed)
        pictures = {"pictures": torch.rand(n, *model.input_shape, generator=generator) * 2 - 1}
        groups = {"label": torch.randint(model.num_classes, (n,), generator=generator)} if model.num_classes else {}
        return pictures | groups
    taken = {"latents": model.latents(n, seed=seed, start=0)}
    if model.num_classes:
        conditions = model.conditions(n, seed=seed, start=0)
        assert conditions is not None
        taken["label"] = conditions["label"]
    return taken


def write(model: GenerativeModule, form: str, path: Path) -> Written:
    """Write the averaged generator of `model`, on the CPU, as `form` (`onnx` or `torchscript`) to `path`.

    Raises:
        UserError: the model has no graph, a package is missing, the folder cannot be written, or the graph draws other
            images than the model; then nothing is written.
    """
    if model.context:
        raise UserError(f"the model looks at {' and '.join(model.context)} too: its weights can be exported, no graph")
    run = {"onnx": _onnx, "torchscript": _torchscript}[form]
    drawing = Drawing(model.exportable().requires_grad_(False)).eval()
    example = inputs(model, TRACED, seed=0)
    try:
        with files.replacing(path) as unfinished:
            with torch.no_grad(), _quiet():
                again = run(drawing, example, model, unfinished)
                given = inputs(model, CHECKED, seed=1)
                with model.asked():
                    difference = float((again(given) - Drawing(model)(*given.values())).abs().max())
            if not difference <= TOLERANCE:
                raise UserError(f"the {form} graph draws other images, by up to {difference:.2g}: nothing was written")
    except OSError as reason:
        raise UserError(f"cannot write {path}: {reason.strerror or reason}") from reason
    return Written(
        {name: tuple(rows.shape[1:]) for name, rows in example.items()}, tuple(model.image_shape), difference
    )


def _onnx(drawing: Drawing, example: dict[str, Tensor], model: GenerativeModule, path: Path) -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as missing:
        raise UserError(f"{missing.name} is not installed: pip install 'lightning-gen[onnx]'") from missing
    program = torch.onnx.export(
        drawing,
        tuple(example.values()),
        dynamo=True,
        dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in example),
        input_names=list(example),
        output_names=["images"],
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props["lightning_gen"] = json.dumps({"model": model.origin.get("model"), **_plain(model)})
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def again(given: dict[str, Tensor]) -> Tensor:
        images: np.ndarray = session.run(["images"], {name: rows.numpy() for name, rows in given.items()})[0]
        return torch.from_numpy(images)

    return again


def _torchscript(drawing: Drawing, example: dict[str, Tensor], model: GenerativeModule, path: Path) -> Any:
    traced = torch.jit.trace(drawing, tuple(example.values()), check_trace=False)
    about = json.dumps({"model": model.origin.get("model"), **_plain(model)})
    torch.jit.save(traced, str(path), _extra_files={"lightning_gen.json": about})
    loaded = torch.jit.load(str(path))
    return lambda given: loaded(*given.values())


def _plain(model: GenerativeModule) -> dict[str, Any]:
    return {"distribution": model.origin.get("distribution"), "settings": model.own_settings()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters speak of their own work and its deprecations; what they cannot do they raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
