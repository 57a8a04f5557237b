"""Lists of YAML and JSON become what a signature says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from lightning_gen import plain


class Base:
    def __init__(self, shape: tuple[int, int] = (1, 2)):
        self.taken: dict[str, Any] = {"shape": shape}


class Wants(Base):
    def __init__(
        self,
        blocks: list[tuple[int, int]] | None = None,
        pyramid: tuple[tuple[int, ...], ...] = (),
        named: dict[str, tuple[int, ...]] | None = None,
        rows: Sequence[int] = (),
        anything: Any = None,
        **base: Any,
    ):
        super().__init__(**base)
        self.taken |= {"blocks": blocks, "pyramid": pyramid, "named": named, "rows": rows, "anything": anything}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", (3, 4)),
        ("blocks", [(1, 2), (3, 4)]),
        ("blocks", None),
        ("pyramid", ((1,), (2, 3))),
        ("pyramid", ()),
        ("named", {"a": (1, 2)}),
        ("rows", [1, 2]),
        ("anything", [[1], {"b": [2]}]),
    ],
)
def test_what_json_made_of_a_setting_is_what_it_was(name: str, value: object) -> None:
    read = json.loads(json.dumps({name: value}))
    assert Wants(**plain.as_signature(Wants, read)).taken[name] == value
