"""What generated images are compared with: the statistics of a source under an extractor, cached by content."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from lightning_gen.data.cache import cache_folder
from lightning_gen.data.source import Source
from lightning_gen.metrics.extractors import Extractor
from lightning_gen.metrics.frechet import FeatureStatistics

BATCH = 256


def statistics(source: Source, extractor: Extractor) -> FeatureStatistics:
    """The feature statistics of every image of `source`, from the cache where these very images were seen before.

    The key holds the content of the images, the extractor, its weights and its resize: whatever changes the number
    is a miss. Writes are atomic, so processes that start together do not disturb each other.
    """
    path = cache_folder() / "references" / f"{_key(source, extractor)}.safetensors"
    if path.is_file():
        saved = load_file(path)
        return FeatureStatistics(int(saved["count"]), saved["total"], saved["outer"])
    found = FeatureStatistics.empty(extractor.feature_dim)
    device = next(iter(extractor.state_dict().values())).device
    for start in range(0, len(source), BATCH):
        rows = np.arange(start, min(start + BATCH, len(source)))
        found.update(extractor(source.read(rows)["image"].to(device)).features)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    save_file({"count": torch.tensor(found.count), "total": found.total, "outer": found.outer}, unfinished)
    os.replace(unfinished, path)
    return found


def _key(source: Source, extractor: Extractor) -> str:
    protocol = [
        source.digest(),
        source.split,
        str(len(source)),
        extractor.name,
        extractor.weights_digest,
        extractor.resize,
    ]
    return hashlib.sha256("\0".join(protocol).encode()).hexdigest()[:32]
