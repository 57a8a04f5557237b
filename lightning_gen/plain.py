"""Settings as files hold them: YAML and JSON have lists where a signature says tuple."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def as_signature(cls: Any, keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords as `cls` wants them: where its signature says tuple, a list becomes one, within lists and
    dictionaries too."""
    types: dict[str, Any] = {}
    for base in reversed(cls.__mro__):  # what __init__ takes as **kwargs is a setting of a base
        annotations = {key: one.annotation for key, one in inspect.signature(base.__init__).parameters.items()}
        try:
            annotations = get_type_hints(base.__init__)
        except Exception:  # names that are there for type checkers alone
            annotations = {key: tuple if "tuple" in str(one) else None for key, one in annotations.items()}
        types |= annotations
    return {key: _typed(value, types.get(key)) for key, value in keywords.items()}


def _typed(value: Any, hint: Any) -> Any:
    origin, inside = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        # of `tuple[int, int] | None` the first that the value can be
        kinds = (dict,) if isinstance(value, dict) else (tuple, list, Sequence)
        return next((_typed(value, one) for one in inside if (get_origin(one) or one) in kinds), value)
    if origin is dict and isinstance(value, dict) and inside:
        return {key: _typed(one, inside[1]) for key, one in value.items()}
    if not isinstance(value, list) or origin not in (tuple, list, Sequence):
        return value
    each = inside if origin is tuple and Ellipsis not in inside else inside[:1] * len(value)
    rows = [_typed(one, kind) for one, kind in itertools.zip_longest(value, each)]
    return tuple(rows) if origin is tuple else rows
