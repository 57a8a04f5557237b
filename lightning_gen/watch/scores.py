"""What scores say: a Fréchet distance far over its best, and a best that lies long back."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from lightning_gen.watch.record import Record, Rule, Verdict, finite, number, of_family, position

FAMILIES = ("fid",)
"""Scores where lower is better and a ratio means something. (A kernel distance may be negative.)"""

EXCESS = 1.25
"""A score up to this factor over its best is noise or a plateau, and pays an earlier excess back."""

LIMIT = 0.4
"""Sum of log(score / best) - log(EXCESS) over evaluations, never below 0, at which the run has collapsed. One
evaluation at 1.87 times the best, two at 1.53, three at 1.43, six at 1.34: the worse, the sooner; and a slow decline
is not missed. How both were chosen on public logs, and how much that proves: `benchmarks/reliability/README.md`."""


class Best:
    """The best level of each score and its newest value, as plain dicts.

    A level is the median of three evaluations in a row: the lowest of many noisy values would be a lucky one, to which
    all others compare badly.
    """

    @staticmethod
    def take_all(scores: dict[str, dict[str, float]], record: Record) -> list[str]:
        """Take in every score of a record, but not the untrained model's; the names of those that have a best."""
        names = []
        for name in record.values:
            value = finite(record, name) if of_family(name, FAMILIES) else None
            if value is None or value <= 0 or record.at == 0:
                continue
            one = scores.setdefault(name, {})
            last = [one[k] for k in ("before", "newest") if k in one]
            if len(last) == 2:
                one["best"] = min(one.get("best", math.inf), statistics.median([*last, value]))
                names.append(name)
            if last:
                one["before"] = last[-1]
            one["newest"] = value
        return names

    @staticmethod
    def holding(scores: dict[str, dict[str, float]], factor: float) -> tuple[str, float, float] | None:
        """A score whose newest value is within `factor` of its best: name, newest, best."""
        for name, one in scores.items():
            if one["newest"] <= factor * one.get("best", -math.inf):
                return name, one["newest"], one["best"]
        return None

    @staticmethod
    def worsened(scores: dict[str, dict[str, float]], factor: float) -> bool:
        """Is a newest value above `factor` times its best or, as long as it has none, the value before?"""
        return any(one["newest"] > factor * one.get("best", one.get("before", math.inf)) for one in scores.values())


@dataclass
class ScoreCollapse(Rule):
    """A Fréchet distance has risen far over its best: a cumulative sum of the excess, on a log scale."""

    name = "score-collapse"
    reads = FAMILIES
    excess: float = EXCESS
    limit: float = LIMIT
    scores: dict[str, dict[str, float]] = field(default_factory=dict, init=False)

    def judge(self, record: Record) -> Verdict | None:
        """Each score by itself."""
        verdict = None
        for name in Best.take_all(self.scores, record):
            one = self.scores[name]
            ratio = one["newest"] / one["best"]
            one["sum"] = max(0.0, one.get("sum", 0.0) + math.log(ratio / self.excess))
            # the evaluations that make up the sum
            one["count"] = one.get("count", 0) + 1 if one["sum"] > 0 else 0
            if one["sum"] > self.limit and verdict is None:
                lasting = f"{one['count']:.0f} evaluations" if one["count"] > 1 else "1 evaluation"
                sentence = (
                    f"{name} is {number(one['newest'])}, {ratio:.2f} times its best level ({number(one['best'])}), "
                    f"and has been worse than {self.excess:g} times that level on balance for {lasting}"
                )
                values = {name: one["newest"], "best": one["best"], "ratio": ratio}
                advice = (
                    "The best checkpoint is likely the better model; go back to it with a lower learning rate, more "
                    "augmentation or a stronger penalty"
                )
                verdict = self._say("stop", "collapsed", record, values, sentence, advice)
        return verdict


PATIENCE = 10
"""Evaluations without a new best before a run can count as stagnated."""

SHARE = 0.5
"""Share of the run so far that must lie behind the best score: as long without progress as it took to get there."""

PROGRESS = 0.01
"""A new best is one that is this share better."""


@dataclass
class Stagnation(Rule):
    """The best score is long ago: a warning, since nothing is lost but time."""

    name = "stagnation"
    reads = FAMILIES
    patience: int = PATIENCE
    share: float = SHARE
    best: dict[str, list[float]] = field(default_factory=dict, init=False)
    """By score: its value, where it was measured, evaluations since."""

    def judge(self, record: Record) -> Verdict | None:
        """Every score must have stagnated: another extractor may still see progress."""
        stale = []
        for name in record.values:
            value = finite(record, name) if of_family(name, FAMILIES) else None
            if value is None or record.at == 0:
                continue
            best = self.best.get(name)
            if best is None or value < best[0] * (1 - PROGRESS):
                self.best[name] = [value, record.at, 0]
                stale.append(False)
            else:
                best[2] += 1
                stale.append(best[2] >= self.patience and record.at - best[1] >= self.share * record.at)
        if not stale:
            return None if self.reported is None else self._verdict(record)
        return self._verdict(record) if all(stale) else None

    def _verdict(self, record: Record) -> Verdict:
        name, (value, since, count) = next(iter(self.best.items()))
        sentence = (
            f"no progress: the best {name} was {number(value)} at {position(since, record.unit)}, {count:.0f} "
            "evaluations ago"
        )
        advice = "More training is unlikely to help as it is; take the best checkpoint, or change a setting"
        return self._say("warn", "stagnated", record, {name: value, "since": since}, sentence, advice)
