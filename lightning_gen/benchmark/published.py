"""Published numbers of CIFAR-10 and the protocol of each: which of them may stand in one table with ours."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources

import yaml

from lightning_gen.metrics.passport import Passport


class Digits(float):
    """A number that is written as it was published: `0.70`, not `0.7`."""

    text: str

    def __new__(cls, text: str) -> Digits:
        """Parse and keep the text."""
        value = super().__new__(cls, text)
        value.text = text
        return value

    def __str__(self) -> str:
        return self.text


class _Loader(yaml.SafeLoader):
    """Plain YAML whose floats keep their digits."""


_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: Digits(node.value))


@dataclass(frozen=True)
class Protocol:
    """What a source says of its measurement; None where it does not."""

    reference: str | None = None
    extractor: str | None = None
    resize: str | None = None
    split: str | None = None
    n_reference: int | None = None
    n_fake: int | None = None
    is_splits: int | None = None


@dataclass(frozen=True)
class Published:
    """One row of a published table."""

    block: str
    """Rows of one block were measured by the same people in the same way."""
    title: str
    """Of the block."""
    method: str
    scores: Mapping[str, Digits]
    """Under short names: `fid`, `is`, `kid`, `precision`, ..."""
    source: str
    """Repository or paper, and where in it."""
    evidence: str
    """How the number was read; see the head of `published.yaml`."""
    protocol: Protocol
    checkpoint: str | None = None
    """`best` or `final`."""
    conditional: bool | None = None
    """Knows the classes; None where the source does not say."""
    spread: Mapping[str, Digits] = field(default_factory=dict)
    """Standard deviations, as far as published."""
    seeds: int | None = None
    notes: str = ""
    """Of the row."""
    about: str = ""
    """Of the block."""


@functools.cache
def published() -> tuple[Published, ...]:
    """All rows of `published.yaml`, in its order."""
    text = resources.files(__package__).joinpath("published.yaml").read_text(encoding="utf-8")
    rows = []
    for block in yaml.load(text, _Loader):
        shared = dict(block.pop("protocol"))
        always = {
            "checkpoint": shared.pop("checkpoint", None),
            "about": block.pop("notes", ""),
            **{name: value for name, value in block.items() if name != "rows"},
        }
        for row in block["rows"]:
            protocol = Protocol(**{**shared, **row.pop("protocol", {})})
            rows.append(Published(**{**always, **row, "protocol": protocol}))
    return tuple(rows)


def matches(row: Published, passport: Passport) -> list[str]:
    """Why the two protocols are not the same, most telling reason first; empty when they may be ranked together.

    A published protocol that leaves open what changes the number matches none, nor does hearsay.
    """
    ours = {
        "reference": passport.reference,
        "extractor": passport.extractor,
        "resize": passport.resize,
        "split": passport.split,
        "n_reference": passport.n_reference,
        "n_fake": passport.n_fake,
    }
    if "is" in row.scores:
        ours["is_splits"] = passport.settings.get("is.splits", "none")
    reasons = []
    for name, value in ours.items():
        stated = getattr(row.protocol, name)
        if stated is None:
            reasons.append(f"{name} not stated")
        elif _name(stated) != _name(value):
            reasons.append(f"{name} {stated}, ours {value}")
    if row.evidence == "secondary":
        reasons.append("quoted by others, the original was not opened")
    return reasons


def concern(passport: Passport) -> bool:
    """Whether published numbers say anything to a reader of these scores: the data is CIFAR-10, in whatever form."""
    return "cifar10" in _name(passport.reference)


@dataclass(frozen=True)
class OtherProtocol:
    """Published rows of one protocol that is none of ours."""

    title: str
    about: str
    sources: tuple[str, ...]
    """With the evidence of each."""
    protocol: Protocol
    reasons: tuple[str, ...]
    """Why they are not ranked, against the nearest of our protocols."""
    rows: tuple[Published, ...]


def apart(passports: Iterable[Passport]) -> list[OtherProtocol]:
    """What matches none of `passports`, in tables of one protocol each."""
    ours = sorted((p for p in passports if concern(p)), key=Passport.digest)
    groups: dict[tuple[str, Protocol], list[tuple[Published, list[str]]]] = {}
    for row in published() if ours else ():
        reasons = min((matches(row, passport) for passport in ours), key=len)
        if reasons:
            groups.setdefault((row.title, row.protocol), []).append((row, reasons))
    others = []
    for (title, protocol), found in groups.items():
        rows = sorted((row for row, _ in found), key=lambda row: row.scores.get("fid", float("inf")))
        sources = tuple(dict.fromkeys(f"{row.source} ({row.evidence})" for row in rows))
        reasons = max(
            (reasons for _, reasons in found), key=len
        )  # some rows have no IS, whose splits then do not matter
        others.append(OtherProtocol(title, rows[0].about, sources, protocol, tuple(reasons), tuple(rows)))
    return others


def _name(value: object) -> str:
    """`CIFAR-10` and `cifar10` are one name."""
    return str(value).casefold().replace("-", "")
