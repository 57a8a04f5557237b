"""What data sources, extractors, metrics and callbacks promise; `lightning_gen.testing.check_model` has it of models.

Each check raises AssertionError with a sentence that says which promise is broken, and UserError where the part cannot
be checked here (files or weights that are missing).
"""

from __future__ import annotations

import inspect
import math
import tempfile
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from lightning_gen import registry
from lightning_gen.data.source import Batch, Source
from lightning_gen.errors import UserError

ROWS = 12
"""Images that a source or an extractor is tried on."""


def check_settings(cls: Any, base: Any, *, defaults: bool = True) -> None:
    """Every keyword of a class has a type, a default (unless files or folders must be named) and a line of help."""
    documentation = inspect.getdoc(cls) or ""
    assert documentation not in ("", inspect.getdoc(base)), "the class needs a docstring: help shows its first line"
    for name, parameter in inspect.signature(cls).parameters.items():
        assert parameter.kind is not inspect.Parameter.VAR_KEYWORD, "**kwargs hides settings: name each one"
        assert parameter.kind is not inspect.Parameter.VAR_POSITIONAL, "*args hides settings: name each one"
        assert parameter.annotation is not inspect.Parameter.empty, f"the setting {name} needs a type"
        odd = _odd(_types(cls).get(name, parameter.annotation))
        assert not odd, f"the setting {name} would arrive as text, not as {odd}: run.yaml holds plain values only"
        assert not defaults or parameter.default is not inspect.Parameter.empty, f"the setting {name} needs a default"
        assert f"{name}:" in documentation, f"the setting {name} needs a line under Args: in the docstring"


def _types(cls: Any) -> dict[str, Any]:
    try:
        return get_type_hints(cls.__init__)
    except Exception:  # names that are there for type checkers only
        return {}


def _odd(kind: Any) -> str:
    """What in the type of a setting is no plain value: its name, or nothing."""
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, Enum | PurePath | set | frozenset | bytes):
        return origin.__name__
    inner = () if origin is Literal else get_args(kind)
    return next(filter(None, map(_odd, inner)), "")


def check_data(data: str | type, **settings: Any) -> None:
    """Read a few rows of a data source and check what the stream, the scores and the passports rely on.

    Args:
        data: A registered name, or the class itself.
        settings: Of the source, where it needs some.

    Raises:
        AssertionError: with a sentence that says which promise is broken.
        UserError: the source wants settings or files that are not there.
    """

    cls: Any = registry.load(data, "data") if isinstance(data, str) else data
    check_settings(cls, Source, defaults=False)
    source, again = cls(**settings), cls(**settings)
    assert source.kind in ("image", "volume", "points"), f"kind is {source.kind!r}: it must be image, volume or points"
    for name in ("image_shape", "class_names", "split"):
        assert hasattr(source, name), f"__init__ must set {name}"
    assert len(source.image_shape) >= 2, f"image_shape is {source.image_shape}, not (channels, height, width)"
    assert all(isinstance(side, int) and side > 0 for side in source.image_shape), "image_shape must be whole numbers"
    assert len(source) > 0, "there is no row in it"
    digest = source.digest()
    assert isinstance(digest, str), "digest must be a str"
    assert digest == again.digest(), "two sources of equal settings have different digests: it must depend on content"
    random = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].tobytes()
    indices = np.arange(ROWS) * 7 % len(source)
    batch = source.read(indices)
    assert torch.equal(random[0], torch.get_rng_state()), "read draws from torch's random stream: no row may be chance"
    drawn = np.random.get_state(legacy=False)["state"]["key"].tobytes()
    assert random[1] == drawn, "read draws from NumPy's random stream: no row may be chance"
    _check_batch(source, batch, len(indices))
    _check_equal(batch, source.read(indices), "the same rows read twice differ")
    _check_equal(batch, again.read(indices), "another source of equal settings has other rows")
    order = np.arange(len(indices))[::-1].copy()
    _check_equal(_rows(batch, order), source.read(indices[order]), "rows must come in the order that is asked for")
    augmented = source.augment(batch, np.linspace(0, 0.999, len(indices)))
    # of a translation training needs the two views and what else the model looks at; what scores read besides may be
    # left out
    needed = batch.keys() if len(source.views) == 1 else {*source.views, *source.context}
    assert needed <= augmented.keys() <= batch.keys(), "augment changes which keys a batch has"
    for key, value in augmented.items():
        same = not isinstance(value, Tensor) or (value.shape, value.dtype) == (batch[key].shape, batch[key].dtype)
        assert same, f"augment changes the shape or type of {key}"
    if source.num_classes:
        counts = source.class_counts()
        assert counts.shape == (source.num_classes,), f"class_counts must give {source.num_classes} numbers"
        assert int(counts.sum()) == len(source), f"class_counts adds up to {int(counts.sum())}, not {len(source)} rows"


def _check_batch(source: Any, batch: Any, rows: int) -> None:
    assert isinstance(batch, dict), f"read must give a dict, not {type(batch).__name__}"
    for key, value in batch.items():
        assert len(value) == rows, f"read of {rows} rows gives {len(value)} of {key}"
    if "image" in batch:
        image = batch["image"]
        kind = torch.float32 if source.kind == "points" else torch.uint8
        assert isinstance(image, Tensor), f"image must be a tensor, not {type(image).__name__}"
        assert image.dtype == kind, f"image must be {kind}, not {image.dtype}"
        wanted = (rows, *source.image_shape)
        assert tuple(image.shape) == wanted, f"read gives images {tuple(image.shape)}, not {wanted}"
    else:
        assert any(isinstance(value, Tensor) for value in batch.values()), "a batch must hold images"
    if len(source.views) == 2:
        for view, shape in zip(source.views, (source.input_shape, source.image_shape), strict=True):
            assert view in batch, f"views names {view!r}, but read gives none"
            assert tuple(batch[view].shape[1:]) == shape, f"{view} is {tuple(batch[view].shape[1:])}, not {shape}"
        assert torch.equal(batch["image"], batch[source.views[1]]), "image must be the view that a translation makes"
    for name in source.context:
        assert name in batch, f"context names {name!r}, but read gives none"
        assert batch[name].dtype == torch.uint8, f"{name} must be torch.uint8, not {batch[name].dtype}"
    if source.captioned:
        said = batch.get("caption")
        assert isinstance(said, list), "captioned is set, but read gives no list of captions"
        assert all(isinstance(caption, str) for caption in said), "a caption must be a str"
    if source.num_classes:
        assert "label" in batch, "there are class_names, but read gives no label"
        label = batch["label"]
        assert label.dtype == torch.int64, f"label must be int64, not {label.dtype}"
        inside = bool(((label >= 0) & (label < source.num_classes)).all())
        assert inside, f"labels must be 0 to {source.num_classes - 1}"


def _rows(batch: dict[str, Any], order: np.ndarray) -> dict[str, Any]:
    at = order.tolist()
    return {key: value[at] if isinstance(value, Tensor) else [value[i] for i in at] for key, value in batch.items()}


def _check_equal(ours: dict[str, Any], theirs: dict[str, Any], otherwise: str) -> None:
    for key, value in ours.items():
        same = torch.equal(value, theirs[key]) if isinstance(value, Tensor) else list(value) == list(theirs[key])
        assert same, f"{otherwise} ({key})"


def check_extractor(extractor: str | type) -> None:
    """Look at random pictures through an extractor and check what scores and passports rely on.

    Args:
        extractor: A registered name, or the class itself.

    Raises:
        AssertionError: with a sentence that says which promise is broken.
        UserError: its weights are not there, or it is registered under another name than its own.
    """
    from lightning_gen.metrics.extractors import Extractor

    cls: Any = registry.load(extractor, "extractors") if isinstance(extractor, str) else extractor
    assert inspect.getdoc(cls) not in (None, inspect.getdoc(Extractor)), "the class needs a docstring"
    for name in ("name", "feature_dim", "logit_dim", "resizes"):
        assert hasattr(cls, name), f"the class must say {name}"
    assert cls.resizes, "resizes must name at least one way to the network's size"
    known = inspect.signature(cls).parameters
    assert {"weights", "resize"} <= set(known), "__init__ must take weights=None and resize=None"
    if not cls.at_hand():
        raise UserError("its weights are not on this machine")
    net = cls()
    assert isinstance(getattr(net, "weights_digest", None), str), "__init__ must set weights_digest"
    assert not any(p.requires_grad for p in net.parameters()), "its weights take gradients: call requires_grad_(False)"
    assert not any(module.training for module in net.train().modules()), "a part of it is in training mode: call eval()"
    pictures = torch.randint(0, 256, (ROWS, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    random = torch.get_rng_state()
    features, logits = net(pictures)
    assert torch.equal(random, torch.get_rng_state()), "it draws from the global random stream: training would change"
    for what, value, width in (("features", features, cls.feature_dim), ("logits", logits, cls.logit_dim)):
        if value is None:
            assert not width, f"logit_dim is {width}, and extract gives no logits"
            continue
        assert value.shape == (ROWS, width), f"{what} are {tuple(value.shape)}, not ({ROWS}, {width})"
        assert value.dtype == torch.float32, f"{what} are {value.dtype}, not float32"
        assert bool(torch.isfinite(value).all()), f"{what} are not finite"
    alone = torch.cat([net(picture[None]).features for picture in pictures])
    off = float((alone - features).abs().max() / features.abs().max().clamp_min(1e-12))
    assert off < 1e-3, f"features of single pictures differ by {off:.1e} from those of a batch: a picture counts alone"
    net(pictures[:, :1, :17, :23])  # one channel, odd sizes


class _Boxes(Source):
    """Volumes: one box in each, of sides that the row says."""

    kind = "volume"
    split, title = "train", "boxes"

    def __init__(self, size: int):
        self.image_shape, self.class_names, self.size = (8, 8, 8), [], size

    def __len__(self) -> int:
        return self.size

    def read(self, indices: np.ndarray) -> Batch:
        volumes = torch.zeros(len(indices), *self.image_shape, dtype=torch.uint8)
        for volume, row in zip(volumes, indices.tolist(), strict=True):
            volume[1 : 3 + row % 5, 2 : 4 + row % 4, : 2 + row % 6] = 255
        return {"image": volumes}

    def digest(self) -> str:
        return f"boxes {self.size}"


def check_metric(metric: str) -> None:
    """Score images of `shapes` with a metric, or volumes where it is made for those, and check what records, tables and
    passports rely on.

    Args:
        metric: A registered name.

    Raises:
        AssertionError: with a sentence that says which promise is broken.
        UserError: it fits neither `shapes` seen through `tiny` nor volumes, or needs what is not there.
    """
    from lightning_gen.data.shapes import Shapes
    from lightning_gen.metrics.evaluation import Panel, evaluate
    from lightning_gen.metrics.extractors import Tiny

    cls = registry.load(metric, "metrics")
    assert (inspect.getdoc(cls) or "").strip(), "the class needs a docstring: it says what the number means"
    unknown = set(cls.needs) - {"statistics", "features", "logits", "pixels"}
    assert not unknown, f"needs names {', '.join(sorted(unknown))}: there are features, logits, pixels and statistics"
    generated: Any = Shapes(size=64, split="test")
    panel = Panel.of(Shapes(size=128), Tiny(), [metric])
    if panel.left_out and not (of_volumes := Panel.of(_Boxes(32), Tiny(), [metric])).left_out:
        panel, generated = of_volumes, _Boxes(16)
    if panel.left_out:
        raise UserError(f"it does not fit shapes and tiny: {panel.left_out[metric]}")
    panel.prepare()
    for key, value in panel.scores[metric].settings(len(generated)).items():
        plain = isinstance(key, str) and isinstance(value, bool | int | float | str)
        assert plain, f"settings must be plain values by name: {key} is {type(value).__name__}"

    def draw(count: int, start: int) -> Tensor:
        images: Tensor = generated.read(np.arange(start, start + count))["image"]
        return images

    (scores,), (again,) = (evaluate(draw, [panel], len(generated)) for _ in range(2))
    assert scores, "compute gives no number"
    for name, value in scores.items():
        assert isinstance(value, float | int), f"{name} must be a number, not {type(value).__name__}"
        assert value == again[name] or math.isnan(value), f"{name} of the same images is {value}, then {again[name]}"


def check_callback(callback: str) -> None:
    """Train a small model with a callback, twice from its start, once resumed, and check that the run survives it.

    Args:
        callback: A registered name.

    Raises:
        AssertionError: with a sentence that says which promise is broken.
    """
    from pytorch_lightning import Callback

    from lightning_gen import checkpoints, experiment, settings

    cls = registry.load(callback, "callbacks")
    check_settings(cls, Callback)
    cls()
    small = ["--model.width", "2", "--data.size", "20", "--data.resolution", "8", "--data.batch_size", "10"]
    rare = ["--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--progress.every_seconds", "1e9"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        chosen = settings.resolve(
            [*small, *rare, "--kimg", "0.04"], model="gan", logger=("none",), callbacks=(callback,)
        )
        experiment.fit(chosen, out, say=lambda _: None)
        checkpoints.read(out / "checkpoints" / "last.ckpt")  # a state that is no plain value would not load
        longer = settings.resolve_resumed(out, ["--kimg", "0.08"])
        seen = experiment.fit(longer, out, resume=True, say=lambda _: None).images_seen
        assert seen == 80, f"a run of 80 images that was resumed ended at {seen}: does the callback stop the trainer?"
