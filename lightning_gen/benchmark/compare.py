"""Two result rows side by side, or the reason why their scores cannot be compared."""

from __future__ import annotations

from lightning_gen.benchmark.numbers import number
from lightning_gen.benchmark.results import Evaluation, ResultRow
from lightning_gen.benchmark.wording import grid, sentence, short
from lightning_gen.errors import UserError
from lightning_gen.metrics.directions import BETTER
from lightning_gen.metrics.passport import Passport, differences


def compare(a: ResultRow, b: ResultRow) -> str:
    """Markdown tables of the scores of two rows and their differences, one for each protocol both have.

    Raises:
        UserError: there is nothing that may be compared; the message names the fields of the passports that differ,
            with both values.
    """
    names = _names(a, b)
    for row, name in zip((a, b), names, strict=True):
        if not row.evaluations:
            raise UserError(f"{name} has no scores: {row.reason or row.state}")
    pairs = [(x, y) for x in a.evaluations for y in b.evaluations if x.weights == y.weights]
    if not pairs:
        raise UserError(f"{names[0]} has scores of {_weights(a)}, {names[1]} of {_weights(b)} weights: none of both")
    alike = [(x, y) for x, y in pairs if x.passport.digest() == y.passport.digest()]
    if not alike:
        x, y = min(pairs, key=lambda pair: len(differences(pair[0].passport, pair[1].passport)))
        raise UserError(
            f"{names[0]} and {names[1]} were measured differently, their scores do not compare:\n"
            + "; ".join(unlike(x.passport, y.passport))
        )
    parts = []
    for digest in dict.fromkeys(x.passport.digest() for x, _ in alike):
        here = [(x, y) for x, y in alike if x.passport.digest() == digest]
        lines = [line for x, y in here for line in _lines(x, y)]
        parts += [
            f"Protocol `{digest}`: {sentence(here[0][0].passport)}.",
            grid(["score", "weights", *names, "difference", "better"], lines, left=("score", "weights", "better")),
        ]
    return "\n\n".join(parts) + "\n"


def unlike(a: Passport, b: Passport) -> list[str]:
    """`n_fake: 2000 and 10000` for each field of the protocol that differs."""
    return [f"{name}: {_value(a, name)} and {_value(b, name)}" for name in differences(a, b)]


def _lines(a: Evaluation, b: Evaluation) -> list[list[str]]:
    lines = []
    for name in dict.fromkeys([*a.scores, *b.scores]):
        x, y = a.scores.get(name), b.scores.get(name)
        shown = [number(v) if v is not None else "-" for v in (x, y)]
        difference, better = "-", "-"
        if x is not None and y is not None:
            difference = f"{'+' if y > x else ''}{number(y - x)}"
            direction = BETTER.get(short(name) or "")
            if direction and (x < y or x > y):  # neither where one is NaN
                better = "second" if (y > x) == (direction == "↑") else "first"
        lines.append([name, a.weights, *shown, difference, better])
    return lines


def _names(a: ResultRow, b: ResultRow) -> tuple[str, str]:
    """As short as tells them apart."""
    x, y = (f"{row.entry}, seed {row.seed}" for row in (a, b))
    if x == y and a.suite != b.suite:
        return f"{x} of {a.suite}", f"{y} of {b.suite}"
    return (x, y) if x != y else (f"{x} (first)", f"{y} (second)")


def _weights(row: ResultRow) -> str:
    return ", ".join(dict.fromkeys(e.weights for e in row.evaluations))


def _value(passport: Passport, name: str) -> str:
    field, _, key = name.partition(".")
    if key:
        return str(getattr(passport, field).get(key, "not set"))
    if field == "reference_digest" and passport.reference:
        return f"{passport.reference_digest[:12]} ({passport.reference})"
    return str(getattr(passport, field))
