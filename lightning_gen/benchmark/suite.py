"""A suite: which models are trained on which data for how long, and how they are scored. Read from YAML."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from lightning_gen import registry
from lightning_gen import settings as resolution
from lightning_gen.errors import UserError, nearest
from lightning_gen.settings import Settings

PLACES = (
    Path("benchmarks/suites"),
    Path(__file__).with_name("suites"),
    Path(__file__).parents[2] / "benchmarks/suites",
)
"""Where suites are looked for by name: the working directory's, those installed with the package, and those of a
checkout that was installed in place."""

SUFFIXES = (".yaml", ".yml")

TIERS = ("smoke", "cpu", "gpu", "paper")

FileName = str
"""A word that files are named after."""


@dataclass(frozen=True)
class Entry:
    """One line of the leaderboard: a model with some settings."""

    model: str
    name: FileName = ""
    preset: str | None = None
    data: str = ""
    """Left out, that of the suite."""
    kimg: float | None = None
    """Budget; left out, that of the suite or of the preset."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Dotted, as on the command line: `{"model.width": 64}`."""

    @property
    def title(self) -> str:
        """What the leaderboard calls it."""
        return self.name or self.model


@dataclass(frozen=True)
class Suite:
    """What the file says; see `benchmarks/suites/`."""

    name: FileName
    about: str
    tier: str
    entries: tuple[Entry, ...]
    data: str = "shapes"
    settings: dict[str, Any] = field(default_factory=dict)
    """Of every entry, dotted; an entry's own win."""
    protocols: tuple[str, ...] = ("tiny",)
    """Of `lgen evaluate`; the first one's Fréchet distance ranks."""
    metrics: tuple[str, ...] = ("fid", "is", "kid", "prdc", "modes")
    n: int = 10_000
    """Samples that are scored."""
    split: str | None = None
    """Part of the data that is the reference, and whose pictures are translated; left out, the one that was trained
    on."""
    seeds: tuple[int, ...] = (0,)
    kimg: float | None = None


@dataclass(frozen=True)
class Row:
    """One run of a suite: an entry with a seed."""

    suite: str
    entry: str
    seed: int
    settings: Settings

    @property
    def fingerprint(self) -> str:
        """8 hex digits of everything that shapes the trained weights: another value is another run."""
        values = self.settings.values
        shaping = {key: values[key] for key in ("kimg", "seed", "model", "data", "update")}
        shaping["precision"] = values["trainer"]["precision"]
        if values["augment"]["kind"] != "none":  # runs without keep the digits that they have in files of results
            shaping["augment"] = values["augment"]
        if self.settings.plugins:
            shaping["plugins"] = [plugin["digest"] for plugin in self.settings.plugins]
        told = json.dumps([self.settings.model, self.settings.data, shaping], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:8]


def available() -> dict[str, Path]:
    """Name to file of every suite that is found, the nearest place first."""
    found: dict[str, Path] = {}
    for place in PLACES:
        for path in sorted(place.glob("*")):
            if path.suffix in SUFFIXES:
                found.setdefault(path.stem, path)
    return found


def load(named: str) -> Suite:
    """The suite of that name, or in that file.

    Raises:
        UserError: no such suite, a file that is none, or a value of the wrong type; the message names the line's key.
    """
    path = Path(named)
    if path.suffix not in SUFFIXES:
        known = available()
        if named not in known:
            raise UserError(f"there is no suite {named!r}{nearest(named, known)} (there are {', '.join(known)})")
        path = known[named]
    content = resolution.read_yaml(str(path))
    content.setdefault("name", path.stem)
    listed = content.pop("entries", None)
    if listed is not None and not isinstance(listed, list):
        raise UserError(f"{path}: entries: expected a list of models, got {_shown(listed)}")
    entries = tuple(_of(Entry, item, f"{path}, entry {i + 1}") for i, item in enumerate(listed or []))
    suite: Suite = _of(Suite, {**content, "entries": entries}, str(path))
    if not entries:
        raise UserError(f"{path}: a suite needs entries, a list of models")
    if suite.tier not in TIERS:
        raise UserError(f"{path}: tier {suite.tier!r} is none of {', '.join(TIERS)}")
    titles = [entry.title for entry in entries]
    if twice := next((title for title in titles if titles.count(title) > 1), None):
        raise UserError(f"{path}: two entries are called {twice!r}: give one a `name`")
    return suite


def rows(
    suite: Suite,
    *,
    data: str | None = None,
    arguments: Sequence[str] = (),
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[Row]:
    """The runs of a suite, settings resolved: a mistake is found before the first of them starts.

    Args:
        suite: What to run.
        data: Another data source than the suite's, for entries that name none of their own.
        arguments: Settings for every run, as on the command line; they win over the suite's.
        only: Titles of entries; left out, all.
        seeds: Left out, the suite's.

    Raises:
        UserError: an unknown entry or metric, or settings that do not resolve; the message names the entry.
    """
    for name in suite.metrics:
        try:
            registry.part(name, "metrics")
        except UserError as reason:
            raise UserError(f"suite {suite.name}: {reason}") from reason
    titles = [entry.title for entry in suite.entries]
    for title in only:
        if title not in titles:
            raise UserError(f"the suite {suite.name} has no entry {title!r}{nearest(title, titles)}")
    found = []
    for entry in suite.entries:
        if only and entry.title not in only:
            continue
        named: dict[str, Any] = {}
        for level in (suite, entry):  # a setting named twice: the later one wins, so the order is the precedence
            named |= {**level.settings, **({"kimg": level.kimg} if level.kimg else {})}
        for seed in seeds or suite.seeds:
            words = [word for key, value in named.items() for word in (f"--{key}", _spelt(value))]
            try:
                resolved = resolution.resolve(
                    [*words, "--seed", str(seed), *arguments],
                    model=entry.model,
                    data=entry.data or data or suite.data,
                    preset=entry.preset,
                    logger=("none",),
                )
            except UserError as reason:
                raise UserError(f"suite {suite.name}, entry {entry.title}: {reason}") from reason
            found.append(Row(suite.name, entry.title, seed, resolved))
    return found


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _is_file_name(value: Any) -> bool:
    """Of 200 bytes at most, for seed, fingerprint and suffix come on top, and file systems end at 255."""
    if not _is_word(value) or not value.isprintable():
        return False
    return "/" not in value and value.strip(".") != "" and len(value.encode()) <= 200


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_budget(value: Any) -> bool:
    """Also a word like 1e3, which is no number to YAML, but to the settings."""
    try:
        return not isinstance(value, bool) and 0 < float(value) < math.inf
    except (TypeError, ValueError, OverflowError):
        return False


def _is_list(value: Any, of: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(of, value))


EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a word", _is_word),
    "FileName": ("a short word without /, for files are named after it", _is_file_name),
    "str | None": ("a word", lambda value: value is None or _is_word(value)),
    "int": ("a whole number, 1 or more", lambda value: _is_whole(value, 1)),
    "float | None": ("a number, more than 0", lambda value: value is None or _is_budget(value)),
    "dict[str, Any]": ("settings like {model.width: 64}", lambda value: isinstance(value, dict)),
    "tuple[str, ...]": ("a list of words", lambda value: _is_list(value, _is_word)),
    "tuple[int, ...]": (
        "a list of whole numbers, 0 or more, like [0, 1, 2]",
        lambda value: _is_list(value, lambda one: _is_whole(one, 0)),
    ),
}
"""What the type of a field says to a user, and what has it."""


def _shown(value: Any) -> str:
    """On one line, as YAML spells it."""
    return json.dumps(value, default=str, skipkeys=True, ensure_ascii=False)


def _spelt(value: Any) -> str:
    """As the command line spells it: a word without quotes."""
    return value if isinstance(value, str) else _shown(value)


def _of(kind: Any, content: Any, where: str) -> Any:
    """A dataclass from plain values, lists as tuples."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected lines like 'model: dcgan', got {yaml.safe_dump(content).strip()}")
    known = {f.name: str(f.type) for f in fields(kind)}
    for key, value in content.items():
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}{nearest(str(key), known)} (there are {', '.join(known)})")
        expected, fits = EXPECTED.get(known[key], ("", lambda value: True))  # the entries are no plain value any more
        if not fits(value):
            raise UserError(f"{where}: {key}: expected {expected}, got {_shown(value)}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})
    except TypeError as reason:
        missing = str(reason).split(":")[-1].strip()
        raise UserError(f"{where}: it does not say {missing}") from reason
