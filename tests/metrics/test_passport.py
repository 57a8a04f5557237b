"""A passport survives JSON, and its digest is that of the protocol alone."""

import dataclasses
import json

import pytest

from lightning_gen.metrics.passport import PROTOCOL, Passport, differences

PASSPORT = Passport(
    extractor="tiny",
    weights_digest="0123456789ab",
    resize="antialiased-bicubic",
    rounding="nearest",
    n_fake=10000,
    reference_digest="feed",
    n_reference=50000,
    split="train",
    settings={"is.splits": 10, "prdc.k": 3},
)


def test_json_and_back():
    assert Passport.from_json(json.loads(json.dumps(PASSPORT.to_json()))) == PASSPORT
    assert Passport.from_json({**PASSPORT.to_json(), "of_a_later_version": 1}) == PASSPORT


def test_passports_without_a_strangers_code_are_what_they_were_before_it_was_told():
    assert PASSPORT.digest() == "d263c9ae", "committed results would no longer compare with new ones"
    assert "extractor_code" not in PASSPORT.to_json()
    stranger = dataclasses.replace(PASSPORT, extractor_code="lgen-fine 1.0")
    assert Passport.from_json(json.loads(json.dumps(stranger.to_json()))) == stranger


def test_it_knows_the_software():
    assert PASSPORT.libraries["torch"]
    assert PASSPORT.code_version


def changed(name: str) -> Passport:
    old = getattr(PASSPORT, name)
    new = {**old, "other": 1} if isinstance(old, dict) else (not old if isinstance(old, bool) else f"{old}x")
    return dataclasses.replace(PASSPORT, **{name: new})


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Passport)])
def test_the_digest_and_the_differences_agree(name):
    other = changed(name)
    if name in PROTOCOL:
        assert other.digest() != PASSPORT.digest()
        assert differences(PASSPORT, other) == ["settings.other" if name == "settings" else name]
    else:
        assert other.digest() == PASSPORT.digest()
        assert differences(PASSPORT, other) == []


def test_what_was_measured_is_not_how():
    assert {"seed", "averaged", "checkpoint_digest", "sampling", "libraries", "code_version"}.isdisjoint(PROTOCOL)
    assert {"extractor", "weights_digest", "resize", "n_fake", "reference_digest", "split", "dtype"} <= set(PROTOCOL)


def test_the_digest_is_eight_digits_and_ignores_the_order_of_settings():
    assert len(PASSPORT.digest()) == 8
    assert int(PASSPORT.digest(), 16) >= 0
    reordered = dataclasses.replace(PASSPORT, settings={"prdc.k": 3, "is.splits": 10})
    assert reordered.digest() == PASSPORT.digest()
    assert differences(PASSPORT, dataclasses.replace(PASSPORT, settings={"prdc.k": 5, "is.splits": 10})) == [
        "settings.prdc.k"
    ]
