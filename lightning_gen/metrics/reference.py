"""What generated images are compared with: a source under an extractor, cached by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_gen import files, registry
from lightning_gen.data.cache import cache_folder, saying_where
from lightning_gen.data.source import Source
from lightning_gen.metrics.extractors import Extractor, Features
from lightning_gen.metrics.features import FeatureSet
from lightning_gen.metrics.frechet import FeatureStatistics
from lightning_gen.metrics.neighbours import reach

BATCH = 256

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""Passes the items of a loop through and shows how far it is; the second argument says what is being done."""


def silent(items: Iterable[Any], doing: str) -> Iterable[Any]:
    """Shows nothing."""
    return items


class Reference:
    """Every image of `source` as `extractor` sees it.

    Computed once and kept under LGEN_CACHE. The key holds the content of the images, the extractor, its weights, its
    resize and, where it is not the package's own, its code: whatever changes the number is a miss. Writes are atomic
    and locked: of several processes that start together one computes, the others read.

    Raises:
        UserError: the cache cannot be written, as soon as something is asked for.
    """

    def __init__(self, source: Source, extractor: Extractor, progress: Progress = silent):
        self.source = source
        self.extractor = extractor
        self.from_cache: bool | None = None
        """Whether all that was asked for was there already; None before anything was."""
        self._progress = progress
        self._loaded: dict[str, dict[str, Tensor]] = {}

    @property
    def extractor_code(self) -> str:
        """Whose code the extractor is, as `registry.code_of` says it; empty for the package's own."""
        return registry.code_of(type(self.extractor), self.extractor.name, "extractors")

    @property
    def statistics(self) -> FeatureStatistics:
        """Count, sum and outer products of all features."""
        saved = self._get("statistics")
        return FeatureStatistics(int(saved["count"]), saved["total"], saved["outer"])

    @property
    def features(self) -> Tensor:
        """(N, D) float32 in the order of the source, mapped from the cache file where the platform can."""
        return self._get("features")["features"]

    def reach(self, k: int) -> Tensor:
        """Squared distance of every image to its k-th nearest other one, (N,) float64; see `neighbours.reach`."""
        return self._get(f"reach-{k}")["reach"]

    def look(self, pixels: Tensor) -> Features:
        """What the extractor says of images, (N, C, H, W) uint8."""
        with registry.blamed(self.extractor.name, "extractors", "cannot see these images"):
            seen: Features = self.extractor(pixels)
        return seen

    def _get(self, kind: str) -> dict[str, Tensor]:
        if kind not in self._loaded:
            path = cache_folder() / "references" / f"{self._key()}.{kind}.safetensors"
            with saying_where(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
                locked = FileLock(f"{path}.lock").acquire()
            with locked:
                saved = _read(path)
                self.from_cache = self.from_cache is not False and saved is not None
                if saved is None:
                    saved = self._compute(kind)
                    with saying_where(path.parent, SafetensorError), files.replacing(path) as unfinished:
                        save_file(saved, unfinished)
            self._loaded[kind] = saved
        return self._loaded[kind]

    def _compute(self, kind: str) -> dict[str, Tensor]:
        if kind.startswith("reach-"):
            return {"reach": reach(self.features, int(kind.removeprefix("reach-")))}
        rows = len(self.source)
        found = FeatureSet(rows, {"features" if kind == "features" else "statistics"})
        weights = self.extractor.state_dict().values()
        device = next((weight.device for weight in weights), torch.device("cpu"))  # an extractor may have none
        for start in self._progress(range(0, rows, BATCH), f"reading the reference with {self.extractor.name}"):
            pixels = self.source.read(np.arange(start, min(start + BATCH, rows)))["image"].to(device)
            found.add(self.look(pixels), pixels)
        if kind == "features":
            return {"features": found.features}
        statistics = found.statistics
        return {"count": torch.tensor(statistics.count), "total": statistics.total, "outer": statistics.outer}

    def _key(self) -> str:
        protocol = [
            self.source.digest(),
            self.source.split,
            str(len(self.source)),
            self.extractor.name,
            self.extractor.weights_digest,
            self.extractor.resize,
            *filter(None, [self.extractor_code]),
        ]
        return hashlib.sha256("\0".join(protocol).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Tensor] | None:
    """The file's tensors; None where there is no whole file (a full disk can leave half of one)."""
    try:
        return load_file(path) if path.is_file() else None
    except (OSError, SafetensorError):
        return None
