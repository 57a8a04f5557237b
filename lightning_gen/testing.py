"""The conformance kit: what every model promises, ours and strangers', in one call.

from lightning_gen.testing import check_model

def test_my_model():
    check_model("my-model")

`check_data`, `check_extractor`, `check_metric` and `check_callback` do the same for the other kinds of parts.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor
from torch.amp import GradScaler

from lightning_gen import launch, registry
from lightning_gen.checkpoints import AtomicCheckpointIO
from lightning_gen.data.module import RunData
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError
from lightning_gen.module import GenerativeModule, StepOutput
from lightning_gen.plugin.checks import check_callback, check_data, check_extractor, check_metric, check_settings
from lightning_gen.update import WHOLE, Update, UpdateOptions

__all__ = ["check_callback", "check_data", "check_extractor", "check_metric", "check_model", "check_settings"]

STEPS = 4
BATCH = 4
OF_RECORDS = ("step", "attempt", "images_per_second")
"""Names that a value of a training step would take from its record."""


Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def check_model(model: str | type[GenerativeModule], precision: Precision = "32-true") -> None:
    """Train a model for a few steps on random images and check everything that callbacks, tools and users rely on.

    Args:
        model: A registered name, or the class itself.
        precision: Of its training; its samples are drawn in float32 either way. fp16 comes with a loss scaler, as on
            GPUs, the only devices on which `lgen fit` takes it.

    Raises:
        AssertionError: with a sentence that says which promise is broken.
    """
    cls = registry.load(model, "models") if isinstance(model, str) else model
    settings = cls.presets.get("quick", {}) | cls.checked
    _check_settings(cls)
    with tempfile.TemporaryDirectory() as folder, launch.quiet():
        straight = _build(cls, settings)
        train = partial(_train, precision)
        outputs = train(straight, STEPS, Path(folder) / "straight.ckpt")
        _check_training(straight, outputs)
        _check_sampling(straight)
        _check_parts(_build(cls, settings), Path(folder), train)
        _check_updates(_build(cls, settings), Path(folder))
        _check_resume(cls, settings, straight, Path(folder), train)
        _check_averages(straight)


class _Pixels(Source):
    """Random images of all the views that a model takes, with labels and captions where it takes them."""

    split = "train"

    def __init__(self, model: GenerativeModule):
        self.views = model.views  # type: ignore[misc]
        self.image_shape = model.image_shape
        self.class_names = [f"class {i}" for i in range(model.num_classes)]
        self.captioned = model.captioned  # type: ignore[misc]
        self.context = model.context  # type: ignore[misc]
        self._shapes: dict[str, tuple[int, ...]] = dict.fromkeys(model.views, model.image_shape)
        if model.translates:
            self._shapes[model.views[0]] = model.input_shape
        if model.context:
            self._shapes |= {name: model.context_shapes[name] for name in model.context}

    def __len__(self) -> int:
        return 3 * BATCH + 1

    def read(self, indices: np.ndarray) -> Batch:
        batch: Batch = {}
        for view, shape in self._shapes.items():
            rows = [np.random.default_rng(int(i)).integers(0, 256, shape, dtype=np.uint8) for i in indices]
            batch[view] = torch.from_numpy(np.stack(rows))
        if self.class_names:
            batch["label"] = torch.from_numpy(indices % self.num_classes)
        if self.captioned:
            batch["caption"] = [f"picture number {i}" for i in indices]
        return batch

    def digest(self) -> str:
        return "random pixels"


class _Outputs(pl.Callback):
    """Keeps what the training steps return, and how far the clock was then."""

    def __init__(self) -> None:
        self.steps: list[StepOutput] = []
        self.clock: list[int] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps.append(outputs)
        self.clock.append(pl_module.clock.images)


def _build(cls: type[GenerativeModule], settings: dict[str, Any]) -> GenerativeModule:
    torch.manual_seed(0)
    return cls(**settings)


def _train(
    precision: Precision, model: GenerativeModule, until: int, save: Path, restore: Path | None = None
) -> _Outputs:
    outputs = _Outputs()
    half = precision == "16-mixed"  # which Lightning, asked for it by name, replaces by bf16 on a CPU
    scaler = GradScaler("cpu", init_scale=4.0)  # so low that no step of these few is lost
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        precision=None if half else precision,
        max_epochs=-1,
        max_steps=until,
        logger=False,
        callbacks=[outputs],
        plugins=[AtomicCheckpointIO(), *([MixedPrecision("16-mixed", "cpu", scaler)] if half else [])],
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model.origin = {"model": type(model).__name__}
    source = _Pixels(model)
    data = RunData(source, BATCH, model.critic_steps, seed=0)
    model.examples = source.examples
    trainer.fit(model, datamodule=data, ckpt_path=restore, weights_only=True)
    trainer.save_checkpoint(save)
    assert trainer.global_step == until, (
        f"{until} training steps moved global_step to {trainer.global_step}: make every update through `self.update`"
    )
    return outputs


Train = Callable[..., _Outputs]
"""`_train` in the precision that is checked."""


def _check_settings(cls: type[GenerativeModule]) -> None:
    check_settings(cls, GenerativeModule)
    for preset, values in cls.presets.items():
        unknown = set(values) - set(inspect.signature(cls).parameters)
        assert not unknown, f"the preset {preset} sets {', '.join(sorted(unknown))}, which __init__ does not take"
    stray = set(cls.recipes) - set(cls.presets)
    assert not stray, f"there are recipes without a preset: {', '.join(sorted(stray))}"


def _check_training(model: GenerativeModule, outputs: _Outputs) -> None:
    each = BATCH * model.critic_steps
    assert outputs.clock == [each * (i + 1) for i in range(STEPS)], (
        f"the clock read {outputs.clock} after the steps, not multiples of {each}: end training_step with "
        "`return self.step_output(images_seen, ...)`, images_seen being the real images of this batch"
    )
    for values in outputs.steps:
        for key, value in values.items():
            assert key not in OF_RECORDS, f"training_step returns {key!r}, which every record has already: rename it"
            assert isinstance(value, Tensor), f"{key} must be a tensor"
            assert not value.requires_grad, f"{key} must be detached"
            assert bool(torch.isfinite(value).all()), f"{key} is not finite"
            assert not key.startswith("loss") or value.dtype == torch.float32, (
                f"{key} is {value.dtype}: losses are computed in float32, of outputs in bf16 too (`.float()`)"
            )
        assert "loss" in values or {"loss_d", "loss_g"} <= set(values), (
            "training_step must return loss, or loss_d and loss_g"
        )
    for name, weight in model.named_parameters():
        kept = weight.requires_grad or "_ema." in name  # what is frozen may be in any precision
        assert not kept or weight.dtype == torch.float32, f"{name} is {weight.dtype}: weights are kept in float32"
        assert bool(torch.isfinite(weight).all()), f"training makes {name} infinite"
    fresh = _build(type(model), model.own_settings()).state_dict()
    for name, network in model.named_children():
        trained = [key for key, p in network.named_parameters(prefix=name) if p.requires_grad]
        now = model.state_dict()
        assert not trained or any(not torch.equal(now[key], fresh[key]) for key in trained), (
            f"training does not change {name}"
        )


def _check_sampling(model: GenerativeModule) -> None:
    random, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    images = model.sample(5, seed=7, start=62)  # across the border of two blocks
    assert images.shape == (5, *model.image_shape), f"sample gives {tuple(images.shape)}, not (5, *{model.image_shape})"
    assert bool(torch.isfinite(images).all()), "sample gives values that are not finite"
    assert images.dtype == torch.float32, f"sample gives {images.dtype}, not float32"
    assert torch.equal(random, torch.get_rng_state()), (
        "sample draws from the global random stream: training would change"
    )
    assert modes == [m.training for m in model.modules()], "sample leaves networks in another training mode"
    now = model.state_dict()
    moved = [key for key, value in state.items() if not torch.equal(value, now[key])]
    assert not moved, f"sample changes {', '.join(moved)}: training would go on from there"
    alone = torch.cat([model.sample(1, seed=7, start=62 + i) for i in range(5)])
    difference = (images - alone).abs().max().item()
    assert difference < 1e-5, f"images drawn one by one differ from those drawn together by {difference:.1e}"
    if model.translates:
        other = model.sample(5, seed=7, start=61)
        assert not torch.equal(images, other), "other pictures are translated to the same ones"
    else:
        other = model.sample(5, seed=8, start=62)
        assert not torch.equal(images, other), "another seed gives the same images"
        if model.num_classes > 1:  # of models that translate, labels may be the discriminator's alone
            labels = torch.arange(min(model.num_classes, BATCH))
            a, b = (model.sample(len(labels), seed=7, condition={"label": labels.roll(by)}) for by in (0, 1))
            assert not torch.equal(a, b), "another label gives the same images"


def _check_parts(model: GenerativeModule, folder: Path, train: Train) -> None:
    """A model that accumulates gets through a step with two parts; one that does not is refused in words."""
    model.update_options = UpdateOptions(accumulate=2)
    try:
        model.update_options.check(model)
        train(model, 1, folder / "parts.ckpt")
    except UserError as reason:
        if str(reason) != WHOLE.format(type(model).__name__):
            raise AssertionError(f"a step in two parts ends in: {reason}") from reason


def _check_updates(model: GenerativeModule, folder: Path) -> None:
    """Gradients come through an update's `backward`, which knows of parts, of loss scales and of other processes."""
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    if model.automatic_optimization or not before:
        return
    with mock.patch.object(Update, "backward"):
        _train("32-true", model, 1, folder / "still.ckpt")  # a loss scaler asks for gradients
    now = dict(model.named_parameters())
    moved = [name for name, value in before.items() if not torch.equal(value, now[name])]
    assert not moved, (
        f"{moved[0]} is trained past `self.update`: several processes would drift apart, and schedule and parts would "
        "not count. Write `with self.update(optimizer) as step:` and inside `step.backward(loss)`"
    )


def _check_averages(model: GenerativeModule) -> None:
    """Where the model keeps averages, its samples are theirs. The weights of the last step are gone afterwards."""
    images = model.sample(2, seed=7)
    kept = [name for name, _ in model.named_children() if hasattr(model, f"{name}_ema")]
    with torch.no_grad():
        for weight in (p for name in kept for p in getattr(model, name).parameters()):
            weight.zero_()
    assert torch.equal(images, model.sample(2, seed=7)), (
        f"samples are drawn from {' and '.join(kept)} and not from the average that is kept: generate must take its "
        "networks from `self.averaged(name)`"
    )
    with model.raw_weights():
        assert not model.has_averages or not torch.equal(images, model.sample(2, seed=7)), (
            f"samples of the raw weights are drawn from the average of {' and '.join(kept)}: generate must take its "
            "networks from `self.averaged(name)`"
        )


def _check_resume(
    cls: type[GenerativeModule], settings: dict[str, Any], straight: GenerativeModule, folder: Path, train: Train
) -> None:
    train(_build(cls, settings), STEPS // 2, folder / "half.ckpt")
    content = AtomicCheckpointIO().load_checkpoint(folder / "half.ckpt")
    assert "hyper_parameters" in content, "call `self.save_hyperparameters(logger=False)` first in __init__"
    resumed = cls(**content["hyper_parameters"])
    train(resumed, STEPS, folder / "resumed.ckpt", folder / "half.ckpt")
    ours, theirs = straight.state_dict(), resumed.state_dict()
    assert ours.keys() == theirs.keys(), "a resumed run has other weights by name"
    for key, value in ours.items():
        same = torch.equal(value, theirs[key]) if isinstance(value, Tensor) else value == theirs[key]
        assert same, (
            f"{key} differs between {STEPS} steps and {STEPS // 2} + resume + {STEPS // 2}: something that matters is "
            "neither in a buffer nor a function of the clock (or noise was not drawn with self.randn / self.rand)"
        )
    assert torch.equal(straight.sample(2), resumed.sample(2)), "a resumed run samples other images"
