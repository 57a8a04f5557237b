"""Which distributions bring which parts, in what state, and why not."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from lightning_gen import registry
from lightning_gen.errors import UserError, nearest
from lightning_gen.plugin.probe import probe


@dataclass(frozen=True)
class Row:
    """One part of one distribution."""

    plugin: str
    """Its name; empty where not even that can be read."""
    kind: str
    distribution: str
    version: str
    state: str
    """`ready`, `refused` by the rules of the registry, or `broken` by itself."""
    reason: str = ""


def survey(*, ours: bool = False, load: float | None = None) -> list[Row]:
    """Every part that a plugin brings, sorted by distribution.

    Args:
        ours: Also those of lightning-gen itself.
        load: Import each, in a process of its distribution, for so many seconds at most; None imports nothing.
    """
    brought: dict[str, list[registry.Part]] = {}
    for part in _parts():
        if part.distribution != registry.OURS or ours:
            brought.setdefault(part.distribution, []).append(part)
    found = [row for parts in brought.values() for row in _states(parts, load)]
    for distribution, reason in registry.unreadable():
        found.append(Row("", "", distribution, "", "broken", reason))
    found += _hidden()
    return sorted(found, key=lambda row: (row.distribution, row.kind, row.plugin))


def parts_of(named: str) -> list[registry.Part]:
    """The parts of the distribution `named`.

    Raises:
        UserError: it is not installed, or brings nothing.
    """
    brought: dict[str, list[registry.Part]] = {}
    for part in _parts():
        brought.setdefault(_normal(part.distribution), []).append(part)
    if found := brought.get(_normal(named)):
        return found
    for name, reason in registry.unreadable():
        if _normal(name) == _normal(named):
            raise UserError(f"{name}: {reason}")
    owners = [part.distribution for part in _parts() if part.name == named]
    if owners:
        raise UserError(f"there is no distribution {named!r}; the name is one of {owners[0]}'s: check that")
    try:
        version = importlib.metadata.version(named)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        known = [parts[0].distribution for parts in brought.values()]
        similar = nearest(named, known)
        raise UserError(f"there is no distribution {named!r}{similar} (`lgen plugin list` shows them)") from None
    groups = ", ".join(f"lightning_gen.{kind}" for kind in registry.KINDS)
    raise UserError(f"{named} {version} brings nothing: it has no entry point in any of {groups}")


def problems(part: registry.Part) -> list[str]:
    """What speaks against the whole distribution of a part; nothing where it is a file."""
    if part.code is not None:
        return []
    found = [f"it needs {need}" for need in missing(part.distribution)]
    if not registry.api_versions(part.distribution):
        line = f'{registry.API_VERSION} = "{re.split("[.:]", part.target)[0]}"'
        found.append(
            "it does not say for which version of the plugin API it was made: add "
            f'[project.entry-points."lightning_gen.api"] with {line}'
        )
    return found


def missing(distribution: str) -> list[str]:
    """What the distribution says it needs and what is not installed, such as `hmmlearn>=0.3`."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        wanted = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    lacking = []
    for line in wanted:
        try:
            need = Requirement(line)
        except InvalidRequirement:
            continue
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            there = importlib.metadata.version(canonicalize_name(need.name))
        except importlib.metadata.PackageNotFoundError:
            lacking.append(f"{need.name}{need.specifier}, which is not installed")
            continue
        if not need.specifier.contains(there, prereleases=True):
            lacking.append(f"{need.name}{need.specifier}, and {there} is installed")
    return lacking


def _states(parts: list[registry.Part], load: float | None) -> list[Row]:
    """The rows of one distribution."""
    lacking = missing(parts[0].distribution)
    needs = f"it needs {' and '.join(lacking)}" if lacking else ""
    rows, loadable = [], []
    for part in parts:
        if not part.problem and load is not None:
            loadable.append(part)
        else:
            state = "refused" if part.problem else "broken" if needs else "ready"
            rows.append(_row(part, state, part.problem or needs))
    for part, verdict in probe("load", loadable, load or 0):
        rows.append(_row(part, verdict.state, verdict.reason + (f"; {needs}" if verdict.reason and needs else "")))
    return rows


def _row(part: registry.Part, state: str, reason: str) -> Row:
    return Row(part.name, registry.KINDS[part.kind], part.distribution, part.version, state, reason)


def _parts() -> list[registry.Part]:
    return [part for kind in registry.KINDS for part in registry.parts(kind)]


def _hidden() -> list[Row]:
    """Distributions that Python does not see for another one of the same name, which stands before them on the path."""
    first: dict[str, tuple[Path, str]] = {}
    found = []
    for distribution in importlib.metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            name, version = distribution.metadata["Name"], distribution.metadata["Version"]
        except (OSError, UnicodeDecodeError):
            continue
        if not name or "lightning_gen." not in text:
            continue
        place = Path(str(distribution.locate_file("")))
        before, its_text = first.setdefault(_normal(name), (place, text))
        if text != its_text:
            reason = f"{name} in {before} stands before the one in {place}"
            found.append(Row("", "", name, version or "0", "refused", reason))
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
