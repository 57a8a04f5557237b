"""Names of models, data sources, extractors, callbacks and metrics, found through entry points.

Listing imports nothing; one part is imported when it is asked for by name. A part that cannot be imported is
broken by itself: it is listed with its reason and everything else keeps working.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

from lightning_gen.errors import UserError, nearest

API_VERSION = 1
"""Version of the contract (module.py, data/source.py, metrics/extractors.py) that this host speaks."""

KINDS = {
    "models": "model",
    "data": "data source",
    "extractors": "extractor",
    "callbacks": "callback",
    "metrics": "metric",
}


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


def parts(kind: str = "models") -> list[Part]:
    """Every registered part of `kind`, sorted by name, none of them imported."""
    installed = importlib.metadata.entry_points()
    apis: dict[str, str] = {}
    for point in installed.select(group="lightning_gen.api"):
        apis[_distribution(point)[0]] = point.name
    found = []
    for point in installed.select(group=f"lightning_gen.{kind}"):
        distribution, version = _distribution(point)
        api = apis.get(distribution, str(API_VERSION))
        problem = ""
        if api != str(API_VERSION):
            problem = (
                f"made for version {api} of the plugin API, this is version {API_VERSION}: install a matching release"
            )
        found.append(Part(point.name, kind, point.value, distribution, version, problem))
    found = list(dict.fromkeys(found))  # an editable install beside a wheel lists the same part twice
    owners: dict[str, set[str]] = {}
    for part in found:
        owners.setdefault(part.name, set()).add(part.distribution)
    return sorted((_with_collision(part, owners[part.name]) for part in found), key=lambda p: (p.name, p.distribution))


def names(kind: str = "models") -> list[str]:
    """Every registered name of `kind`, sorted, without importing anything."""
    return list(dict.fromkeys(part.name for part in parts(kind)))


def part(name: str, kind: str = "models") -> Part:
    """The part that has this name; of several, each of which has a `problem`, the first.

    Raises:
        UserError: no part has it.
    """
    known = parts(kind)
    for candidate in known:
        if candidate.name == name:
            return candidate
    raise UserError(f"unknown {KINDS[kind]} {name!r}{nearest(name, [p.name for p in known])} ({_listing(kind, known)})")


def load(name: str, kind: str = "models") -> Any:
    """The class registered as `name`, imported now.

    Raises:
        UserError: unknown name, a name that two distributions claim, another API version, or an import that failed;
            the message names the distribution and the reason.
    """
    found = part(name, kind)
    if found.problem:
        raise UserError(
            f"{KINDS[kind]} {name!r} of {found.distribution} {found.version} cannot be used: {found.problem}"
        )
    try:
        loaded = importlib.metadata.EntryPoint(found.name, found.target, f"lightning_gen.{kind}").load()
    except (Exception, SystemExit) as reason:
        said = "".join(f": {line}" for line in str(reason).strip().splitlines()[:1])
        raise UserError(
            f"{KINDS[kind]} {name!r} of {found.distribution} {found.version} cannot be imported ({found.target}): "
            f"{type(reason).__name__}{said}"
        ) from reason
    _refuse_foreign(loaded, found)
    return loaded


BASES = {
    "models": "lightning_gen.module.GenerativeModule",
    "data": "lightning_gen.data.source.Source",
    "extractors": "lightning_gen.metrics.extractors.Extractor",
    "callbacks": "pytorch_lightning.callbacks.callback.Callback",
    "metrics": "lightning_gen.metrics.scores.Score",
}
"""What a part derives from, by name: asking by class would import it."""


def _refuse_foreign(loaded: Any, found: Part) -> None:
    """Say in one line what would only fail as a riddle, much later."""
    bases = [f"{base.__module__}.{base.__qualname__}" for base in getattr(loaded, "__mro__", ())]
    whose = f"{KINDS[found.kind]} {found.name!r} of {found.distribution}"
    if any(base.startswith("lightning.pytorch.") for base in bases):
        raise UserError(
            f"{whose} derives from `lightning.pytorch`: import `pytorch_lightning` instead, the two cannot be mixed"
        )
    if BASES[found.kind] not in bases:
        raise UserError(f"{whose} ({found.target}) is no {BASES[found.kind]}")


def _with_collision(part: Part, owners: set[str]) -> Part:
    if len(owners) == 1:
        return part
    problem = f"the name is claimed by {' and '.join(sorted(owners))}: uninstall one of them"
    return Part(part.name, part.kind, part.target, part.distribution, part.version, problem)


def _distribution(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    """Name and version; what an interrupted uninstall left behind may have neither."""
    try:
        about = point.dist.metadata  # type: ignore[union-attr]
        name, version = about["Name"], about["Version"]
    except (AttributeError, LookupError, TypeError, OSError):  # it depends on the version of Python
        name = version = None
    return name or "a broken installation", version or "0"


def _listing(kind: str, known: list[Part]) -> str:
    if kind in ("models", "data", "extractors"):
        return f"`lgen {kind}` lists them"
    return f"there are {', '.join(dict.fromkeys(p.name for p in known))}"
