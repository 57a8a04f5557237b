"""All rules together, over one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_gen.watch.discriminator import VanishedGradient, WonDiscriminator
from lightning_gen.watch.divergence import Explosion, FarFromHistory, NotFinite
from lightning_gen.watch.modes import ModeCollapse, SameLabels
from lightning_gen.watch.record import Record, Rule, Verdict, of_family
from lightning_gen.watch.scores import ScoreCollapse, Stagnation


def standard() -> list[Rule]:
    """Every rule at its published thresholds, the most certain first."""
    return [
        NotFinite(),
        Explosion(),
        FarFromHistory(),
        SameLabels(),
        ModeCollapse(),
        ScoreCollapse(),
        VanishedGradient(),
        WonDiscriminator(),
        Stagnation(),
    ]


class Watch:
    """Feeds records to rules.

        watch = Watch()
        for verdict in watch.observe(Record(at=images_seen, values={"loss_d": 0.7, "loss_g": 1.1})):
            ...

    Args:
        rules: Rules of this run, each its own object; the standard ones where left out.
        without: Families of fields that the rules are not shown, such as `fid`.
    """

    def __init__(self, rules: Sequence[Rule] | None = None, without: Iterable[str] = ()):
        self.rules = list(standard() if rules is None else rules)
        self.without = tuple(without)
        self.fields: set[str] = set()
        """Every field seen so far."""

    def observe(self, record: Record) -> list[Verdict]:
        """What the rules say at this record: most often nothing, and never twice of one trouble."""
        if self.without:
            values = {name: v for name, v in record.values.items() if not of_family(name, self.without)}
            record = Record(record.at, values, record.unit)
        self.fields.update(record.values)
        verdicts = [rule.observe(record) for rule in self.rules]
        return [verdict for verdict in verdicts if verdict is not None]

    def idle(self) -> dict[str, tuple[str, ...]]:
        """Rules that have not seen one field they read, with those fields."""
        return {r.name: r.reads for r in self.rules if not any(of_family(name, r.reads) for name in self.fields)}

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"fields": sorted(self.fields), "rules": {rule.name: rule.state() for rule in self.rules}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`. A rule that it does not know starts anew."""
        self.fields = set(state["fields"])
        for rule in self.rules:
            rule.load(state["rules"].get(rule.name, {}))


@dataclass(frozen=True)
class Outcome:
    """What the rules say of a whole run.

    Args:
        verdict: `healthy`, or what the run is.
        alarm: The first verdict that would have stopped it, else the last that says it stagnated, where that lasts to
            the end of the log.
        verdicts: All of them, in order.
        end: Position of the last record.
    """

    verdict: str
    alarm: Verdict | None
    verdicts: list[Verdict] = field(default_factory=list)
    end: float = 0.0

    @property
    def share_left(self) -> float:
        """Share of the run that was still to go at the alarm; 0 where there was none."""
        return max(0.0, 1 - self.alarm.at / self.end) if self.alarm and self.end else 0.0


def replay(records: Iterable[Record], watch: Watch | None = None, end: float = 0.0) -> Outcome:
    """Run all records through the rules; `end` is the run's budget where it is longer than the log."""
    watch = watch or Watch()
    verdicts: list[Verdict] = []
    for record in records:
        verdicts += watch.observe(record)
        end = max(end, record.at)
    stops = [v for v in verdicts if v.severity == "stop"]
    lasting = {rule.name for rule in watch.rules if rule.reported}
    stagnated = [v for v in verdicts if v.state == "stagnated" and v.rule in lasting]
    alarm = next(iter(stops or stagnated[::-1]), None)
    return Outcome(alarm.state if alarm else "healthy", alarm, verdicts, end)
