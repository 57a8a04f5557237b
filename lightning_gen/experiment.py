"""One run, straight down: data, model, run directory, loggers, callbacks, Trainer. This file knows everybody."""

from __future__ import annotations

import contextlib
import math
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from lightning_gen import checkpoints, execution, launch, loggers, records, registry
from lightning_gen.augment import AugmentOptions
from lightning_gen.callbacks.interrupt import Interrupt, Listen, Stopped
from lightning_gen.callbacks.metrics import Metrics
from lightning_gen.callbacks.watch import Watch
from lightning_gen.data.cache import Unreadable
from lightning_gen.data.module import RunData
from lightning_gen.data.source import Source
from lightning_gen.errors import StrangerError, UserError
from lightning_gen.metrics.passport import library_versions
from lightning_gen.module import GenerativeModule
from lightning_gen.rundir import RunDirectory
from lightning_gen.settings import Settings
from lightning_gen.update import UpdateOptions
from lightning_gen.watch import Verdict, way_back


@dataclass(frozen=True)
class Finished:
    """What a run leaves behind."""

    folder: Path
    images_seen: int
    scores: dict[str, float]
    grid: Path | None
    interrupted: str | None = None
    """Name of the signal that ended the run before its budget."""
    saved: bool = True
    """Whether there is a checkpoint of the end; not where the signal came before the first step."""
    verdict: Verdict | None = None
    """Why the watch ended it."""
    rollbacks: int = 0


def fit(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    say: Callable[[str], Any] = print,
    show_progress: bool = True,
) -> Finished:
    """Train until the clock reaches the budget; `resume` goes on from the last checkpoint in `out`.

    Where the watch gives the run up and its setting is to roll back, training goes on from an earlier checkpoint with
    lower learning rates; where a signal came meanwhile, once the run is resumed. `say` is handed the sentences that a
    user should read; without `show_progress` the callback `progress` is left out.

    Raises:
        UserError: the settings, the data or the run directory do not allow it. Nothing is written then.
    """
    with RunDirectory(out) as place:
        finished = _attempt(settings, place, resume, say, show_progress)
        watch = settings.values.get("watch", {})
        while finished.verdict and watch["action"] == "rollback" and finished.rollbacks < watch["rollbacks"]:
            if launch.is_first_process():
                target = way_back(finished.verdict, settings.values["kimg"] * 1000)
                seen = checkpoints.roll_back(out / "checkpoints", watch["lr_cut"], target)
                say(f"rolled back to {seen / 1000:g} kimg, learning rates x {watch['lr_cut']:g}")
                finished = replace(finished, images_seen=seen)
            if signalled := _of_any_process(finished.interrupted):
                return replace(finished, interrupted=signalled, verdict=None)
            finished = _attempt(settings, place, True, say, show_progress)
    return finished


def _of_any_process(signalled: str | None) -> str | None:
    """The signal that one of them was sent, the same on each: one that stopped alone would leave the others waiting."""
    if not torch.distributed.is_initialized():
        return signalled
    everyones: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyones, signalled)
    return next(filter(None, everyones), None)


def _attempt(
    settings: Settings, place: RunDirectory, resume: bool, say: Callable[[str], Any], show_progress: bool
) -> Finished:
    """One start of the run, to its end, a signal or a verdict."""
    out, values = place.path, settings.values
    _refuse_out_of_range(values)
    if not resume:
        _refuse_taken(out)
    elif launch.is_first_process():
        place.take()  # before the checkpoint is looked at, which another process may be about to replace
    restored = _restorable(out, say) if resume else None
    source = build_source(settings)
    torch.manual_seed(values["seed"])  # initial weights
    model = build_model(settings, source)
    data = RunData(source, values["data"]["batch_size"], model.critic_steps, values["seed"], values["data"]["workers"])
    model.clock.budget = round(values["kimg"] * 1000)
    model.update_options = UpdateOptions(**values["update"])
    model.update_options.check(model)
    augment = AugmentOptions(**values["augment"])
    augment.check(model)
    model.augment = augment.make()
    began = 0
    if restored is not None:
        began = _seen_before(out, restored, source, model)
        if launch.steps(values, data) * data.images_per_step < began:
            raise UserError(
                f"--kimg {values['kimg']:g} is less than the {began / 1000:g} kimg that {out} has seen already"
            )
    names = [name for name in values["callbacks"] if show_progress or name != "progress"]
    callbacks = [registry.make(name, "callbacks", **values.get(name, {})) for name in names]
    saved = True
    with launch.quiet():
        interrupt = Interrupt()
        trainer = launch.trainer(values, out, data, [Listen(interrupt), *callbacks, interrupt])
        if launch.is_first_process():
            place.take()
            if not resume:
                _refuse_taken(out)  # again: now nobody else can begin one
            place.begin(settings.to_yaml())
        try:
            if launch.is_first_process():
                _introduce(settings, model, source, out, say)
            with interrupt:
                attempt = records.next_attempt(out)
                trainer.loggers = [
                    records.RecordLogger(out, attempt),
                    *loggers.make(values["logger"], out, attempt, say),
                ]
                if launch.is_first_process():
                    stated = yaml.safe_load(settings.to_yaml())
                    for logger in trainer.loggers:
                        loggers.settings(logger, stated, library_versions(model.origin))
                trainer.fit(model, datamodule=data, ckpt_path=restored, weights_only=True)
        except Stopped:
            saved = False
            if (launcher := trainer.strategy.launcher) is not None:
                launcher.kill(signal.SIGKILL)  # processes that it started wait for this one, deaf to anything else
        finally:
            # before that a mistake that only callbacks or loggers can see (missing weights, no key) leaves nothing
            if model.clock.images > began:
                place.keep()
    grids = sorted((out / "samples").glob("*.png"))
    scores = next((callback.latest for callback in callbacks if isinstance(callback, Metrics)), {})
    grid = grids[-1] if grids else None
    watch = next((callback for callback in callbacks if isinstance(callback, Watch)), None)
    verdict = watch.verdict if watch else None
    # a signal beside the last scores has cost nothing; beside a verdict it decides whether another attempt begins
    whole = verdict is None and model.clock.images >= model.clock.budget
    interrupted = None if whole else interrupt.received
    return Finished(out, model.clock.images, scores, grid, interrupted, saved, verdict, model.rollbacks)


def build_source(settings: Settings) -> Source:
    """The data source that the settings name, and what it has to say."""
    keywords = {k: v for k, v in settings.values["data"].items() if k not in ("batch_size", "workers")}
    try:
        source: Source = registry.make(settings.data, "data", **keywords)
    except Unreadable as reason:
        if "on_error" not in settings.values["data"]:
            raise
        raise UserError(f"{reason}\n`--data.on_error skip` leaves out what cannot be read") from reason
    except UserError as reason:
        if "model.image_shape" in settings.explicit and "data.resolution" not in settings.explicit:
            # the source blames the setting that followed from the one that the user wrote
            wrote = f"--model.image_shape {settings.values['model']['image_shape']}:"
            raise UserError(re.sub(r"^--data\.resolution \d+:?", wrote, str(reason))) from reason
        raise
    settings.notes.extend(getattr(source, "notes", []))
    return source


def build_model(settings: Settings, source: Source) -> GenerativeModule:
    """The model that the settings name, with the shape and the classes of the data."""
    model_class = registry.load(settings.model, "models")
    if model_class.views != source.views:
        _refuse_other_views(settings, model_class, source)
    if model_class.captioned and not source.captioned:
        fitting = _sources_where(lambda source_class: source_class.captioned)
        raise UserError(
            f"{settings.model} learns from captions, and the data {settings.data} has none: --data {fitting}"
        )
    if lacking := [name for name in model_class.context if name not in source.context]:
        fitting = _sources_where(lambda source_class: set(model_class.context) <= set(source_class.context))
        raise UserError(
            f"{settings.model} looks at {' and '.join(lacking)}, which the data {settings.data} does not have: "
            f"--data {fitting}"
        )
    settle(settings, source)
    keywords = settings.values["model"]
    model: GenerativeModule = registry.make(settings.model, "models", **keywords)
    part = registry.part(settings.model, "models")
    if forgotten := sorted(set(keywords) - set(model.own_settings())):
        raise StrangerError(
            f"{part.title} does not keep {', '.join(forgotten)}, and no checkpoint of it could be opened: call "
            "`self.save_hyperparameters(logger=False)` first in __init__"
        )
    if execution.takes_any_layout(model):
        execution.channels_last(model)
    elif any(parameter.ndim > 3 for parameter in model.parameters()):
        settings.notes.append(
            f"{settings.model} is computed in PyTorch's own layout: `any_layout = True` in its class, if no code of it "
            "calls view on images, makes convolutions faster"
        )
    model.seed = settings.values["seed"]
    model.examples = source.examples
    if model.num_classes:
        counts = source.class_counts().double()
        model.class_frequencies = (counts / counts.sum()).tolist()
    model.origin = {
        "model": settings.model,
        "distribution": part.distribution,
        "version": part.version,
        "preset": settings.preset,
        "data": settings.data,
        "kind": source.kind,
        "data_digest": source.digest(),
        "class_names": list(source.class_names),
        "plugins": settings.plugins,
    }
    return model


def settle(settings: Settings, source: Source) -> None:
    """Give those settings of the model that the data decides their values: shape, classes, channels, vocabulary.

    Raises:
        UserError: the user wrote another value.
    """
    keywords = settings.values["model"]
    of_the_data: dict[str, Any] = {
        "image_shape": list(source.image_shape),
        "num_classes": source.num_classes,
        "source_channels": source.input_shape[0],
        "factor": source.image_shape[-1] // source.input_shape[-1],
        **source.model_settings(),
    }
    for name, found in of_the_data.items():
        if name not in keywords:
            continue
        if f"model.{name}" in settings.explicit and keywords[name] != found:
            raise UserError(
                f"--model.{name} {keywords[name]} does not match the data {settings.data}, which has {found}"
            )
        keywords[name] = found


def _refuse_other_views(settings: Settings, model_class: type[GenerativeModule], source: Source) -> None:
    fitting = _sources_where(lambda source_class: source_class.views == model_class.views)
    raise UserError(
        f"{settings.model} learns from {' and '.join(model_class.views)}, and the data {settings.data} has "
        f"{' and '.join(source.views)}: --data {fitting}"
    )


def _sources_where(fits: Callable[[type[Source]], bool]) -> str:
    fitting = []
    for name in registry.names("data"):
        with contextlib.suppress(UserError):  # a broken plugin is no choice
            if fits(registry.load(name, "data")):
                fitting.append(name)
    return ", ".join(fitting)


def _refuse_out_of_range(values: dict[str, Any]) -> None:
    if not math.isfinite(values["kimg"] * 1000):
        raise UserError(f"--kimg: must be a finite number of images, got {values['kimg']}")
    if round(values["kimg"] * 1000) == 0:
        raise UserError(f"--kimg {values['kimg']:g} is less than one image")
    if values["seed"] >= 2**64:
        raise UserError(f"--seed: must be less than 2^64, got {values['seed']}")


def _refuse_taken(out: Path) -> None:
    if not launch.is_first_process():
        return
    if (out / "run.yaml").exists():
        raise UserError(f"{out} already holds a run: go on with `lgen fit --resume {out}`, or choose another --out")
    if any((out / "checkpoints").glob("*.ckpt")):
        raise UserError(f"{out} holds checkpoints of a run whose run.yaml is gone: choose another --out")


def _introduce(
    settings: Settings, model: GenerativeModule, source: Source, out: Path, say: Callable[[str], Any]
) -> None:
    channels, height, width = source.image_shape
    networks = ", ".join(
        f"{name} {sum(p.numel() for p in network.parameters()):,}"
        for name, network in model.named_children()
        if not name.endswith("_ema")
    )
    say(
        f"{settings.model} on {len(source):,} images of {settings.data}, {channels} x {height} x {width}"
        + (f"; {networks} parameters" if networks else "")
    )
    for note in settings.notes:
        # the name of a file may be no text: what cannot be printed is shown as its code
        say(f"  {note.encode(errors='backslashreplace').decode()}")
    say(f"  budget {settings.values['kimg']:g} kimg, run directory {out}")


def _restorable(out: Path, say: Callable[[str], Any]) -> Path | None:
    """The checkpoint to go on from, where last.ckpt was lost the one of the others that has seen most; None for a run
    that was stopped before its first one."""
    folder = out / "checkpoints"
    if (last := folder / "last.ckpt").exists():
        return last
    others = [path for name in ("healthy", "best") if (path := folder / f"{name}.ckpt").exists()]
    seen = {path: checkpoints.images_seen(checkpoints.read(path)) for path in others}
    found = max(seen, key=lambda path: seen[path], default=None)
    if found is None or seen[found] == 0:
        return None
    if launch.is_first_process():
        say(f"WARNING  {out} has lost its last.ckpt: it goes on from {found.name}, at {seen[found] / 1000:g} kimg")
    return found


def _seen_before(out: Path, checkpoint: Path, source: Source, model: GenerativeModule) -> int:
    """Images that the checkpoint has seen.

    Raises:
        UserError: they were others than `source` has now, or it is of a model with other settings.
    """
    content = checkpoints.read(checkpoint)
    now = model.own_settings()
    for name, then in content.get(model.CHECKPOINT_HYPER_PARAMS_KEY, {}).items():
        if name in now and now[name] != then:
            raise UserError(
                f"{out / 'run.yaml'} says model.{name} {now[name]}, and {checkpoint.name} was trained with {then}: "
                "a run goes on with the settings that it began with"
            )
    if content[checkpoints.ORIGIN]["data_digest"] != source.digest():
        raise UserError(f"the data of {out} changed since its last checkpoint: a resumed run must see the same images")
    return checkpoints.images_seen(content)
