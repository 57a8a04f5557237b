"""Files with one JSON object a line, as a run writes them: without torch, since `lgen watch` reads them too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any


def objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The object of every line that holds one; a crash in the middle of a write cuts a line short."""
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def current(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of a run in order, without those that a later attempt has superseded."""
    kept: list[dict[str, Any]] = []
    for record in records:
        while kept and kept[-1]["attempt"] < record["attempt"] and kept[-1]["images_seen"] >= record["images_seen"]:
            kept.pop()
        kept.append(record)
    return kept
