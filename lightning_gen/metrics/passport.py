"""The protocol behind a score: two scores may be compared when nothing that changes the number differs."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_gen import __version__

Plain = bool | int | float | str

LIBRARIES = ("numpy", "pillow", "torch", "torch-fidelity", "torchmetrics", "torchvision")


def library_versions(origin: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Installed versions of Python and of the libraries a score passes through, none of them imported.

    With what a checkpoint says of its origin, also the distribution of its model, or its file and the digest of that.
    """
    found = {"python": platform.python_version()}
    if origin:
        found[origin["distribution"]] = origin["version"]
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _protocol(**options: Any) -> Any:
    """A field that is part of the measurement itself: another value gives another number for the same model."""
    return field(metadata={"protocol": True}, **options)


@dataclass(frozen=True)
class Passport:
    """How a score was measured, and on what.

    The fields of the protocol change the number of one and the same model; scores that differ in one of them are not
    ranked. The others say what was measured (seed, checkpoint, averaged or raw weights, sampling options) and with
    which software: they distinguish rows, and comparing such rows is what a leaderboard is for.
    """

    extractor: str = _protocol()
    weights_digest: str = _protocol()
    """First hex digits of the sha256 of the extractor's weights file."""
    resize: str = _protocol()
    rounding: str = _protocol()
    """How floats became bytes, `nearest` for ours; `none` for pictures that were bytes."""
    n_fake: int = _protocol()
    reference_digest: str = _protocol()
    """Content hash of the reference images."""
    n_reference: int = _protocol()
    split: str = _protocol()
    """Which part of the data the reference is: `train` by default."""
    dtype: str = _protocol(default="float32")
    """In which the extractor computes."""
    extractor_code: str = _protocol(default="")
    """Of an extractor that is not the package's own: distribution and version, or the digest of a file's text."""
    settings: Mapping[str, Plain] = _protocol(default_factory=dict)
    """Of the scores, e.g. `{"is.splits": 10, "kid.subset_size": 1000, "prdc.k": 3}`."""
    reference: str = ""
    """The reference in words, as its data source calls itself; its content is what `reference_digest` says."""
    seed: int = 0
    """Names the stream of samples."""
    averaged: bool = False
    """The model's averaged weights drew the samples."""
    checkpoint_digest: str | None = None
    """None for a folder of images, and for a model that was never saved."""
    sampling: Mapping[str, Plain] = field(default_factory=dict)
    """Options of the model's `generate`, e.g. `{"truncation": 0.7}`."""
    libraries: Mapping[str, str] = field(default_factory=library_versions)
    code_version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """All fields as a dict of JSON's own types; `extractor_code` only where there is something to say."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if not self.extractor_code:  # passports that were written before there was such a field keep their digests
            del values["extractor_code"]
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Passport:
        """The inverse of `to_json`; fields of a later version that this one does not know are left out."""
        return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})

    def digest(self) -> str:
        """8 hex digits over the protocol: equal for scores that may be ranked together."""
        protocol = {name: value for name, value in self.to_json().items() if name in PROTOCOL}
        return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:8]


PROTOCOL = tuple(f.name for f in dataclasses.fields(Passport) if f.metadata.get("protocol"))
"""Names of the fields that change the number."""


def differences(a: Passport, b: Passport) -> list[str]:
    """Names of the fields that change the number and differ; `settings.prdc.k` for one entry of the settings."""
    found = []
    for name in PROTOCOL:
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, Mapping):
            found += [f"{name}.{key}" for key in sorted({*left, *right}) if left.get(key) != right.get(key)]
        elif left != right:
            found.append(name)
    return found
