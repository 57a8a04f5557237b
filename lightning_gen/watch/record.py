"""What a run says of itself at one point, what a rule says of the run, and what every rule has."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

Severity = Literal["warn", "stop"]
State = Literal["collapsed", "diverged", "stagnated"]


@dataclass(frozen=True)
class Record:
    """The numbers of one point of a run, under the names of `metrics.jsonl`; NaN where a value was not finite.

    Args:
        at: Position, in `unit`.
        values: `loss`, `loss_d`, `loss_g`; `logits_real`, `logits_fake` (means); `grad_norm_d`, `grad_norm_g`;
            scores (`fid/…`, `recall/…`, `coverage/…`, `mode_coverage`); and what a callback measures on samples and
            batches: `diversity`, `duplicates`, `class_spread`, `label_perplexity` (`watch/modes.py` defines them).
        unit: What `at` counts.
    """

    at: float
    values: Mapping[str, float]
    unit: Literal["images", "step"] = "images"


@dataclass(frozen=True)
class Verdict:
    """What is wrong, since when, by which numbers, and what to try.

    Args:
        severity: `stop` where going on is a waste, `warn` where it may be one.
        rule: Name of the rule.
        state: What the run is.
        at: Position of the record that decided.
        unit: What `at` counts.
        values: The numbers that decided.
        sentence: The reason, in plain words, with the numbers.
        advice: What to try.
    """

    severity: Severity
    rule: str
    state: State
    at: float
    unit: str
    values: Mapping[str, float]
    sentence: str
    advice: str

    @property
    def message(self) -> str:
        """Where, why, and what to try, on one line."""
        return f"at {position(self.at, self.unit)}: {self.sentence}. {self.advice}"


@dataclass
class Rule:
    """One thing that can go wrong with a run.

    A rule keeps plain values only (numbers, lists, dicts of them), so that its state travels in a checkpoint. It is
    handed every record of the run once, in order, and decides nothing by the wall clock or by chance: fed live or
    replayed, on one rank or on all, it says the same at the same record.

    Subclasses are dataclasses that write `judge`.
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    """Fields (or families, `fid` for `fid/tiny`) of which it needs one."""
    also: ClassVar[tuple[str, ...]] = ()
    """Fields that it takes in besides, where they are there."""

    reported: Severity | None = field(default=None, init=False)
    """What was said of a trouble that still lasts: it is said again only when it becomes worse."""

    def judge(self, record: Record) -> Verdict | None:
        """Take in one record that has such a field; a verdict for as long as the trouble lasts."""
        raise NotImplementedError

    def observe(self, record: Record) -> Verdict | None:
        """Take in one record; a verdict where trouble begins or becomes worse."""
        if not any(of_family(name, self.reads + self.also) for name in record.values):
            return None
        verdict = self.judge(record)
        before, self.reported = self.reported, verdict.severity if verdict else None
        return verdict if verdict is not None and before not in ("stop", verdict.severity) else None

    def state(self) -> dict[str, Any]:
        """All that decides what this rule says next, as plain values."""
        return {f.name: _copy(getattr(self, f.name)) for f in fields(self) if not f.init}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        for name, value in state.items():
            setattr(self, name, _copy(value))

    def _say(
        self, severity: Severity, state: State, record: Record, values: Mapping[str, float], sentence: str, advice: str
    ) -> Verdict:
        return Verdict(severity, self.name, state, record.at, record.unit, dict(values), sentence, advice)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value


def of_family(name: str, families: Iterable[str]) -> bool:
    """Is `fid/tiny` (or `fid`) one of the `fid` family?"""
    return name.split("/", 1)[0] in families


def finite(record: Record, name: str) -> float | None:
    """A value of a record, where it is there and finite."""
    value = record.values.get(name)
    return value if value is not None and math.isfinite(value) else None


def keep(window: list[float], value: float, length: int) -> None:
    """Append, and drop what is older than the last `length`."""
    window.append(value)
    del window[:-length]


def spread(values: list[float], median: float) -> float:
    """The median absolute deviation, scaled to the standard deviation of a normal distribution."""
    return 1.4826 * statistics.median(abs(v - median) for v in values)


def position(at: float, unit: str) -> str:
    """``12.3 kimg`` or ``step 4,000``."""
    return f"{at / 1000:,.4g} kimg" if unit == "images" else f"step {at:,.0f}"


def number(value: float) -> str:
    """Three significant digits, as a person writes them."""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
