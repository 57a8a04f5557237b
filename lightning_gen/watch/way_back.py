"""Where a run that the watch gave up should go on from."""

from __future__ import annotations

from typing import Literal

from lightning_gen.watch.divergence import NotFinite
from lightning_gen.watch.record import Verdict
from lightning_gen.watch.scores import ScoreCollapse

Place = Literal["healthy", "best", "beginning"]

FIRST_HALF = 0.5
"""Share of the budget up to which a run begins anew: less is thrown away than is ahead."""


def way_back(verdict: Verdict, budget: float) -> Place:
    """Which checkpoint a run of `budget` images should go on from.

    A score falls for long before a rule is sure, so what was healthy shortly before is already worse than the best. One
    batch or one overflow makes values that are not finite, and nothing before it need be wrong. Everything else (a
    dead generator, collapse, explosion) grows out of weights that no rule complained of yet: in the first half of a
    run these are not worth keeping. `benchmarks/reliability/rollback.py` measures it.
    """
    if verdict.rule == ScoreCollapse.name:
        return "best"
    if verdict.rule == NotFinite.name or verdict.at > FIRST_HALF * budget:
        return "healthy"
    return "beginning"
