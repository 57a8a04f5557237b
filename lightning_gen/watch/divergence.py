"""Numbers that no training survives: not finite, beyond anything, or far outside the run's own history."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from lightning_gen.watch.record import Record, Rule, Verdict, finite, keep, number, spread

LOSSES = ("loss", "loss_d", "loss_g")
LOGITS = ("logits_real", "logits_fake")
GRADIENTS = ("grad_norm_d", "grad_norm_g")

LOWER_RATE = "Try a lower learning rate, a gradient penalty or spectral norm, or go back to a healthy checkpoint"

OVERFLOWS = 20
"""Records in a row whose gradients are not finite. Half precision's loss scaler starts high and skips the steps whose
gradients overflow, halving each time: 16 halvings end at 1, so more than that is no search for a scale."""


@dataclass
class NotFinite(Rule):
    """A loss, a logit or a score that is not finite ends the run at once; a gradient, after `overflows` in a row."""

    name = "not-finite"
    reads = (*LOSSES, *LOGITS, *GRADIENTS, "fid", "kid")
    overflows: int = OVERFLOWS
    overflown: dict[str, int] = field(default_factory=dict, init=False)

    def judge(self, record: Record) -> Verdict | None:
        """Look at every field by itself."""
        wrong = [n for n, v in record.values.items() if n.split("/")[0] in self.reads and not math.isfinite(v)]
        for name in GRADIENTS:
            if name in record.values:
                self.overflown[name] = self.overflown.get(name, 0) + 1 if name in wrong else 0
        fatal = [name for name in wrong if self.overflown.get(name, self.overflows) >= self.overflows]
        if not fatal:
            return None
        many = " and ".join(fatal) + (" are" if len(fatal) > 1 else " is") + " not finite (NaN or infinite)"
        if fatal[0] in GRADIENTS:
            many += f" for {self.overflown[fatal[0]]} records in a row"
        return self._say("stop", "diverged", record, {n: record.values[n] for n in fatal}, many, LOWER_RATE)


GAP_LIMIT = 1e3
"""Largest absolute discriminator loss, and gap between the logits of real and fake. Over the public logs the largest
discriminator loss is 21; a critic whose penalty is missing passes this within some thousand steps."""

LEVEL_LIMIT = 1e4
"""The same for the generator's loss and for single logits, whose common level drifts in Wasserstein critics: up to 425
in the public logs, in runs that stay healthy."""

IN_A_ROW = 10
"""Records in a row beyond a limit: one bad batch is no divergence."""


@dataclass
class Explosion(Rule):
    """Losses or logits so large that no healthy adversarial run was seen near them: a run that starts sick has no
    healthy history to be compared with."""

    name = "explosion"
    reads = ("loss_d", "loss_g", *LOGITS)
    gap_limit: float = GAP_LIMIT
    level_limit: float = LEVEL_LIMIT
    in_a_row: int = IN_A_ROW
    beyond: dict[str, int] = field(default_factory=dict, init=False)

    def judge(self, record: Record) -> Verdict | None:
        """Count records in a row beyond the limit, for each quantity."""
        sizes = {name: v for name in self.reads if (v := finite(record, name)) is not None}
        if "logits_real" in sizes and "logits_fake" in sizes:
            sizes["logits_real - logits_fake"] = sizes["logits_real"] - sizes["logits_fake"]
        for name, size in sizes.items():
            limit = self._limit(name)
            self.beyond[name] = self.beyond.get(name, 0) + 1 if abs(size) > limit else 0
        wrong = [name for name in sizes if self.beyond[name] >= self.in_a_row]
        if not wrong:
            return None
        name = wrong[0]
        sentence = (
            f"{name} is {number(sizes[name])}, and beyond {number(self._limit(name))} for {self.beyond[name]} records "
            "in a row: the networks are running away from each other"
        )
        return self._say("stop", "diverged", record, {name: sizes[name]}, sentence, LOWER_RATE)

    def _limit(self, name: str) -> float:
        return self.gap_limit if name in ("loss_d", "logits_real - logits_fake") else self.level_limit


HISTORY = 200
"""Records that the history holds: long against the swings of a game of two networks, short against its drift."""

WARMUP = 50
"""Records before the history is believed."""

FAR = 20.0
"""Spreads (scaled median absolute deviations) from the median of the history. Losses of healthy runs do jump (SAGAN's
and BigGAN's generators in the public logs triple theirs within a hundred steps and stay there); none of the public logs
is as far as 10 spreads for ten records in a row."""

FLOOR = 0.05
"""A spread is at least this share of the median, or a loss that has become very steady would jump by nothing."""

FACTOR = 100.0
"""The same for gradient norms, which vary by factors: so many times the median of the history."""


@dataclass
class FarFromHistory(Rule):
    """Losses, logits or gradient norms far outside their own history for several records in a row.

    Compared with the median and the median absolute deviation of a trailing window, so a critic's swings widen their
    own limits and a slow drift moves them. What is far is not taken into the history before the rule has spoken.
    """

    name = "far-from-history"
    reads = (*LOSSES, *LOGITS, *GRADIENTS)
    far: float = FAR
    factor: float = FACTOR
    in_a_row: int = IN_A_ROW
    history: dict[str, list[float]] = field(default_factory=dict, init=False)
    away: dict[str, list[float]] = field(default_factory=dict, init=False)

    def judge(self, record: Record) -> Verdict | None:
        """Compare each field with its own past."""
        verdict = None
        for name in self.reads:
            value = finite(record, name)
            if value is None:
                continue
            history, away = self.history.setdefault(name, []), self.away.setdefault(name, [])
            median = statistics.median(history) if len(history) >= WARMUP else None
            if median is None or not self._is_far(name, value, median, history):
                # a spike that is over belongs to the history; robust statistics bear it
                for one in (*away, value):
                    keep(history, one, HISTORY)
                away.clear()
                continue
            keep(away, value, self.in_a_row)
            if len(away) == self.in_a_row and verdict is None:
                sentence = (
                    f"{name} is {number(value)} where its last {len(history)} records had a median of "
                    f"{number(median)}, and has been as far off for {self.in_a_row} records in a row"
                )
                values = {name: value, "median": median, "spread": spread(history, median)}
                verdict = self._say("stop", "diverged", record, values, sentence, LOWER_RATE)
        return verdict

    def _is_far(self, name: str, value: float, median: float, history: list[float]) -> bool:
        if name in GRADIENTS:
            return median > 0 and value > self.factor * median
        scale = max(spread(history, median), FLOOR * abs(median))
        return scale > 0 and abs(value - median) > self.far * scale
