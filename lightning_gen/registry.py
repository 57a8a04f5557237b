"""Names of models, data sources, extractors, callbacks and metrics, found through entry points.

Listing imports nothing; one part is imported when it is asked for by name. A part that cannot be imported is
broken by itself: it is listed with its reason and everything else keeps working.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import importlib.metadata
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightning_gen import plain, unpackaged
from lightning_gen.errors import StrangerError, UserError, nearest

API_VERSION = 1
"""Version of the contract (module.py, data/source.py, metrics/extractors.py) that this host speaks."""

OURS = "lightning-gen"
"""The distribution whose names nobody can take."""

KINDS = {
    "models": "model",
    "data": "data source",
    "extractors": "extractor",
    "callbacks": "callback",
    "metrics": "metric",
}

BASES = {
    "models": "lightning_gen.module.GenerativeModule",
    "data": "lightning_gen.data.source.Source",
    "extractors": "lightning_gen.metrics.extractors.Extractor",
    "callbacks": "pytorch_lightning.callbacks.callback.Callback",
    "metrics": "lightning_gen.metrics.scores.Score",
}
"""What a part derives from, by name: asking by class would import it."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
"""A name becomes a part of directories, settings and scores."""


@dataclass(frozen=True)
class Part:
    """One registered name: where it comes from, and whether it may be used."""

    name: str
    kind: str
    target: str
    distribution: str
    version: str
    problem: str = ""
    """Why it cannot be used, empty when it can (as far as one can tell without importing it)."""
    code: unpackaged.Code | None = None
    """Where it is defined if no distribution brings it; then `distribution` is the file and `version` its digest."""

    @property
    def title(self) -> str:
        """As messages call it."""
        return f"{KINDS[self.kind]} {self.name!r} of {self.distribution} {self.version}"


_unpackaged: dict[tuple[str, str], Part] = {}
"""By kind and name: what --plugin, run.yaml or a checkpoint made known to this process."""


def parts(kind: str = "models") -> list[Part]:
    """Every registered part of `kind`, sorted by name, none of them imported."""
    points = _installed()
    apis: dict[str, list[str]] = {}
    for point, distribution, _ in points:
        if point.group == "lightning_gen.api":
            apis.setdefault(distribution, []).append(point.name)
    found = []
    for point, distribution, version in points:
        if point.group == f"lightning_gen.{kind}":
            problem = _problem(point.name, apis.get(distribution, [str(API_VERSION)]))
            found.append(Part(point.name, kind, point.value, distribution, version, problem))
    found += [part for (its_kind, _), part in _unpackaged.items() if its_kind == kind]
    found = list(dict.fromkeys(found))  # an editable install beside a wheel lists the same part twice
    owners: dict[str, set[str]] = {}
    for part in found:
        owners.setdefault(part.name, set()).add(part.distribution)
    return sorted((_with_collision(part, owners[part.name]) for part in found), key=lambda p: (p.name, p.distribution))


def api_versions(distribution: str) -> list[str]:
    """For which versions of the plugin API a distribution says that it was made."""
    return [
        point.name for point, whose, _ in _installed() if point.group == "lightning_gen.api" and whose == distribution
    ]


def names(kind: str = "models") -> list[str]:
    """Every registered name of `kind`, sorted, without importing anything."""
    return list(dict.fromkeys(part.name for part in parts(kind)))


def part(name: str, kind: str = "models") -> Part:
    """The part that has this name; of several the one that may be used, or the first where none may.

    Raises:
        UserError: no part has it.
    """
    known = parts(kind)
    named = [candidate for candidate in known if candidate.name == name]
    if not named:
        similar = nearest(name, [p.name for p in known])
        raise UserError(f"unknown {KINDS[kind]} {name!r}{similar} ({_listing(kind, known)})")
    return next((candidate for candidate in named if not candidate.problem), named[0])


def refused(name: str, kind: str = "models") -> list[Part]:
    """Those that claim a name that belongs to another part."""
    return [p for p in parts(kind) if p.name == name and p.problem] if not part(name, kind).problem else []


def load(name: str, kind: str = "models") -> Any:
    """The class registered as `name`, imported now.

    Raises:
        UserError: unknown name, a name that two distributions claim, another API version, an import that failed, or
            an extractor that gives itself another name; the message names the distribution and the reason.
    """
    return load_part(part(name, kind))


def load_part(found: Part) -> Any:
    """The class of one part, as `load`; of several that share a name this one."""
    if found.problem:
        raise UserError(f"{found.title} cannot be used: {found.problem}")
    try:
        loaded = _import(found)
    except KeyboardInterrupt:
        raise
    except BaseException as reason:  # sys.exit, and whatever else a stranger raises at import
        said = f"{found.title} cannot be imported ({found.target}): {_said(reason)}"
        if found.distribution == OURS:  # what it stands on is at fault, or we are
            said += "\n`lgen doctor` looks for what is wrong with the installation"
        raise UserError(said) from reason
    _refuse_foreign(loaded, found)
    return loaded


def make(name: str, kind: str = "models", /, *arguments: Any, **keywords: Any) -> Any:
    """The class registered as `name`, constructed; keywords may come from YAML or JSON (`plain.as_signature`).

    Raises:
        UserError: as `load`, and what a stranger's constructor raises.
    """
    cls = load(name, kind)
    with blamed(name, kind, "cannot be constructed"):
        return cls(*arguments, **plain.as_signature(cls, keywords))


@contextlib.contextmanager
def blamed(name: str, kind: str, deed: str) -> Iterator[None]:
    """Inside works code of a part. What a stranger's raises becomes a line that names its distribution; in ours it
    is a bug, and raised as it is.

    Raises:
        StrangerError: it names the part and what was raised.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as reason:
        found = part(name, kind)
        if found.distribution == OURS:
            raise
        raise StrangerError(f"{found.title} {deed}: {_said(reason)}\nLGEN_DEBUG=1 shows where") from reason


def author(failure: BaseException) -> str:
    """Whose code an exception came out of, by its traceback: a stranger's distribution or file, or nobody but us."""
    owners = {p.target.partition(":")[0].partition(".")[0]: p for kind in KINDS for p in parts(kind) if not p.code}
    whose, trace = "", failure.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if unpackaged.is_module(module):
            whose = frame.f_code.co_filename
        elif module in owners and owners[module].distribution != OURS:
            whose = f"{owners[module].distribution} {owners[module].version}"
    return whose


@contextlib.contextmanager
def including(specs: Iterable[str]) -> Iterator[None]:
    """Inside, the classes `FILE.py:Class` are parts like any other, under the names of the classes.

    Raises:
        UserError: no such file or class, one that cannot be imported or is of no kind, a name that is taken.
    """
    before = dict(_unpackaged)
    try:
        for spec in specs:
            code = unpackaged.find(spec)
            _add(code)
            unpackaged.remember(code)
        yield
    finally:
        _unpackaged.clear()
        _unpackaged.update(before)


def recall(kept: Sequence[Mapping[str, str]], whose: str) -> list[str]:
    """Make the unpackaged classes of a run known again; gives what a user should read.

    A class that --plugin names now is taken as it is now.

    Raises:
        UserError: a file that has gone, has changed, or was never named by hand here.
    """
    notes = []
    for one in kept:
        named = next((p for p in _unpackaged.values() if p.code and p.code.attribute == one["class"]), None)
        if named is None:
            _add(unpackaged.recall(dict(one), whose))
        elif named.version != one["digest"]:
            notes.append(
                f"{one['class']} is not the code it was ({one['digest']}): now {named.version}, {named.target}"
            )
    return notes


def unpackaged_among(used: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Records, for `recall`, of those of the pairs (kind, name) that no distribution brings."""
    found = [_unpackaged.get(one) for one in dict.fromkeys(used)]
    return [unpackaged.record(part.code) for part in found if part is not None and part.code]


def included() -> list[Part]:
    """What --plugin, run.yaml or a checkpoint made known to this process."""
    return list(_unpackaged.values())


def only_unpackaged_model() -> str | None:
    """The model that is meant where --plugin names one and --model is left out."""
    models = [name for kind, name in _unpackaged if kind == "models"]
    return models[0] if len(models) == 1 else None


def code_of(cls: type, name: str, kind: str) -> str:
    """Whose code a class is: the distribution and version of the part `name` where that brings it, else the digest of
    its file; empty for ours, whose version stands elsewhere."""
    package = _package(cls.__module__)
    if package == _package(__name__):
        return ""
    for found in parts(kind):
        if found.name == name and found.code is None and _package(found.target.partition(":")[0]) == package:
            return f"{found.distribution} {found.version}"
    return unpackaged.digest_of(cls)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _add(code: unpackaged.Code) -> None:
    part = Part(code.attribute, "models", code.spec, code.file.name, code.digest, code=code)
    try:
        with _tidy("models"):
            loaded = unpackaged.load(code)
    except KeyboardInterrupt:
        raise
    except BaseException as reason:
        alone = " (a file stands alone: it imports installed packages only)" if _is_beside(reason, code) else ""
        raise UserError(f"{code.file.name}:{code.attribute} cannot be imported: {_said(reason)}{alone}") from reason
    bases = _bases(loaded)
    _refuse_other_lightning(bases, f"{code.file.name}:{code.attribute}")
    kind = next((kind for kind, base in BASES.items() if base in bases), None)
    if kind is None:
        raise UserError(f"{code.file.name}:{code.attribute} derives from none of {', '.join(BASES.values())}")
    taken = [p for p in parts(kind) if p.name == code.attribute and p.code is None]
    if taken:
        owner = f"{taken[0].distribution} {taken[0].version}"
        raise UserError(
            f"{code.file.name}:{code.attribute}: {owner} has a {KINDS[kind]} of that name, give the class another one"
        )
    _unpackaged[kind, code.attribute] = replace(part, kind=kind)


def _is_beside(reason: BaseException, code: unpackaged.Code) -> bool:
    missing = getattr(reason, "name", None) if isinstance(reason, ModuleNotFoundError) else None
    return bool(missing) and (code.file.parent / f"{missing}.py").is_file()


def _import(found: Part) -> Any:
    if found.code is not None:
        return unpackaged.load(found.code)
    point = importlib.metadata.EntryPoint(found.name, found.target, f"lightning_gen.{found.kind}")
    if found.distribution == OURS:
        with _unswept():
            return point.load()
    with _tidy(found.kind):
        return point.load()


@contextlib.contextmanager
def _unswept() -> Iterator[None]:
    """Around the import that brings torch and Lightning: half a million objects that stay, among which Python looks for
    garbage again and again, for a quarter of the time. It does not look through them then, nor later.

    Not where torch is there before: what is frozen is never freed, and tensors of the caller's may be in it.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _tidy(kind: str) -> Iterator[None]:
    """Inside a stranger's module is imported: what it prints is no result of `lgen`, and the warnings that it silences
    are silenced for nobody else."""
    # the host's own part of the import keeps the filters it sets
    with _unswept():
        importlib.import_module(BASES[kind].rpartition(".")[0])
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        yield


def _refuse_foreign(loaded: Any, found: Part) -> None:
    """Say in one line what would only fail as a riddle, much later."""
    bases = _bases(loaded)
    whose = f"{KINDS[found.kind]} {found.name!r} of {found.distribution}"
    _refuse_other_lightning(bases, whose)
    if BASES[found.kind] not in bases:
        raise UserError(f"{whose} ({found.target}) is no {BASES[found.kind]}")
    if found.kind == "extractors" and (its_name := getattr(loaded, "name", None)) != found.name:
        # scores, passports and the cache of references go by it: one that it inherits would be taken for its parent
        raise UserError(f"{whose}: its class says name = {its_name!r}, and scores go by that: make it {found.name!r}")


def _refuse_other_lightning(bases: list[str], whose: str) -> None:
    if any(base.startswith("lightning.pytorch.") for base in bases):
        raise UserError(
            f"{whose} derives from `lightning.pytorch`: import `pytorch_lightning` instead, the two cannot be mixed"
        )


def _bases(loaded: Any) -> list[str]:
    return [f"{base.__module__}.{base.__qualname__}" for base in getattr(loaded, "__mro__", ())]


def _problem(name: str, apis: list[str]) -> str:
    """What speaks against a part, by its name and the versions of the API that its distribution was made for."""
    if not NAME.fullmatch(name):
        return "a name is made of letters, digits, - and _ (or +), a letter or digit first: rename its entry point"
    if str(API_VERSION) not in apis:
        made_for = f"version{'s' * (len(apis) > 1)} {' and '.join(apis)}"
        return f"made for {made_for} of the plugin API, this is version {API_VERSION}: install a matching release"
    return ""


def _with_collision(part: Part, owners: set[str]) -> Part:
    if len(owners) == 1 or part.distribution == OURS:
        return part
    if OURS in owners:
        return replace(part, problem=f"the name belongs to {OURS}, and {part.distribution} claims it: rename the part")
    return replace(part, problem=f"the name is claimed by {' and '.join(sorted(owners))}: uninstall one of them")


def _installed() -> tuple[tuple[importlib.metadata.EntryPoint, str, str], ...]:
    """Every entry point that is for us, with the name and the version of its distribution.

    Read again when the path or one of its folders has changed, and after a second: what is written into the folder of
    a distribution, as by an installation that is under way, changes no folder of the path. A command asks for parts
    some forty times, and reading takes 20 ms or, with hundreds of distributions, 100.
    """
    return _read(tuple((folder, _changed(folder)) for folder in sys.path), int(time.monotonic()))


def _changed(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=1)
def _read(path: tuple[tuple[str, int], ...], second: int) -> tuple[tuple[importlib.metadata.EntryPoint, str, str], ...]:
    """As `_installed`; the path and the second are what the cache goes by."""
    points = _entry_points()
    owners = {distribution: _whose(distribution) for distribution in {point.dist for point in points}}
    return tuple((point, *owners[point.dist]) for point in points)


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    groups = ("api", *KINDS)
    try:
        installed = importlib.metadata.entry_points()
        return [point for group in groups for point in installed.select(group=f"lightning_gen.{group}")]
    except Exception:  # one line that is no entry point, in any distribution, is raised for all of them
        return [point for points, _ in _one_by_one() for point in points]


def unreadable() -> list[tuple[str, str]]:
    """Distributions whose entry points cannot be read, and why: their parts are not even known by name."""
    return [(name, problem) for _, (name, problem) in _one_by_one() if problem]


def _one_by_one() -> Iterator[tuple[list[importlib.metadata.EntryPoint], tuple[str, str]]]:
    """The entry points of each distribution, or its name and why it has none; slower than all at once."""
    seen = set()
    for distribution in importlib.metadata.distributions():
        try:
            name = distribution.metadata["Name"] or "a broken installation"
        except Exception:
            name = "a broken installation"
        if name in seen:
            continue
        seen.add(name)
        try:
            yield list(distribution.entry_points), (name, "")
        except Exception as reason:
            yield [], (name, f"its entry_points.txt cannot be read: {_said(reason)}")


def _whose(distribution: importlib.metadata.Distribution | None) -> tuple[str, str]:
    """Name and version; what an interrupted uninstall left behind may have neither."""
    try:
        about = distribution.metadata  # type: ignore[union-attr]
        name, version = about["Name"], about["Version"]
    except (AttributeError, LookupError, TypeError, OSError):  # it depends on the version of Python
        name = version = None
    return name or "a broken installation", version or "0"


def _said(reason: BaseException) -> str:
    """Type and first line of an exception."""
    return type(reason).__name__ + "".join(f": {line}" for line in str(reason).strip().splitlines()[:1])


def _listing(kind: str, known: list[Part]) -> str:
    if kind in ("models", "data", "extractors"):
        return f"`lgen {kind}` lists them"
    return f"there are {', '.join(dict.fromkeys(p.name for p in known))}"
