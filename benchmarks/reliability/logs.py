"""The operating point of the health rules on logs of real runs.

    python benchmarks/reliability/logs.py LOGFILE

LOGFILE holds a whole run on each line, as `lgen watch` reads it (lightning_gen/watch/logs.py). "Collapsed" is defined
by the end of a run's own curve: its last FID over its best. Everything is deterministic: the halves are made by a hash
of the run's name, noise and resamples by a fixed seed. Prints Markdown; about half a minute on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_gen.watch import Outcome, Record, Watch, logs, replay, scores
from lightning_gen.watch.discriminator import RATIO, WonDiscriminator
from lightning_gen.watch.scores import ScoreCollapse

DEFINITION = 1.5
DEFINITIONS = (1.3, 1.5, 2.0, 3.0)
EXCESSES = (1.1, 1.15, 1.2, 1.25, 1.3, 1.4)
LIMITS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
RATIOS = (5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 75.0, 100.0)
NOISE = 0.10  # two healthy WGANs of the public file have 0.10 and 0.13 in their second half, the others 0.005 to 0.05
ALLOWED = 1 / 20
NOISY_COPIES = 10
ALONE = 1.8  # one evaluation by itself stops no run below this multiple of its best level; added late, see README.md
PAIRS = [(e, m) for e in EXCESSES for m in LIMITS if e * math.exp(m) >= ALONE]
RESAMPLES = 2000
HALVES = 200


@dataclass(frozen=True)
class Run:
    name: str
    records: list[Record]

    @property
    def fid(self) -> list[tuple[float, float]]:
        return [(r.at, r.values["fid"]) for r in self.records if "fid" in r.values]

    @property
    def ratio(self) -> float:
        """Last FID over the best one."""
        values = [value for _, value in self.fid]
        return values[-1] / min(values)


Alarm = float | None
"""Share of the run left at the alarm, None where there was none."""


# -- what is compared -----------------------------------------------------------------------------------


def cumulative(run: Run, excess: float, limit: float) -> Alarm:
    """`score-collapse` by itself: what every choice of thresholds is made with."""
    rule = ScoreCollapse(excess=excess, limit=limit)
    fid = run.fid
    for at, value in fid:
        if rule.observe(Record(at, {"fid": value}, "step")):
            return 1 - at / run.records[-1].at
    return None


def simple(run: Run) -> Alarm:
    """FID above 1.5 times its best at two evaluations in a row."""
    best, above = math.inf, 0
    for at, value in run.fid:
        best = min(best, value)
        above = above + 1 if value > 1.5 * best else 0
        if above == 2:
            return 1 - at / run.records[-1].at
    return None


def won(run: Run, ratio: float) -> Alarm:
    """`won-discriminator` by itself on losses alone."""
    watch = Watch([WonDiscriminator(ratio=ratio)], without=["fid"])
    return of(replay(run.records, watch))


def of(outcome: Outcome) -> Alarm:
    return outcome.share_left if outcome.alarm else None


# -- counting -------------------------------------------------------------------------------------------


def wilson(hits: int, n: int) -> str:
    """95 % interval of a share; a bootstrap of 8 hits of 8 would claim certainty."""
    if n == 0:
        return "-"
    z, p = 1.96, hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return f"{max(0.0, middle - half) / (1 + z * z / n):.0%}-{(middle + half) / (1 + z * z / n):.0%}"


def bootstrap_median(values: Sequence[float], rng: random.Random) -> str:
    if not values:
        return "-"
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return f"{medians[int(0.025 * RESAMPLES)]:.2f}-{medians[int(0.975 * RESAMPLES)]:.2f}"


def row(name: str, runs: Sequence[Run], alarms: Sequence[Alarm], definition: float = DEFINITION) -> str:
    sick = [a for run, a in zip(runs, alarms, strict=True) if run.ratio > definition]
    others = [a for run, a in zip(runs, alarms, strict=True) if run.ratio <= definition]
    hits, false = [a for a in sick if a is not None], [a for a in others if a is not None]
    left = f"{statistics.median(hits):.2f} ({bootstrap_median(hits, random.Random(0))})" if hits else "-"
    return (
        f"| {name} | {len(hits)}/{len(sick)} ({wilson(len(hits), len(sick))}) "
        f"| {len(false)}/{len(others)} ({wilson(len(false), len(others))}) | {left} |"
    )


HEAD = "|{}| stopped (95 %) | others stopped (95 %) | share left at the median alarm (95 %) |\n|---|---|---|---|"


# -- made-up runs: what the file does not hold ----------------------------------------------------------


def with_fid(run: Run, change: Callable[[int, int, float], float]) -> Run:
    """The run with its FID curve changed: (number of the evaluation, how many, value) to value."""
    fid = run.fid
    new = [Record(at, {"fid": change(i, len(fid), value)}, "step") for i, (at, value) in enumerate(fid)]
    return replace(run, records=[*new, Record(run.records[-1].at, {}, "step")])


def noisy(run: Run, sd: float, rng: random.Random) -> Run:
    return with_fid(run, lambda i, n, value: value * math.exp(rng.gauss(0, sd)))


def declining(run: Run, rng: random.Random) -> Run:
    """A healthy run that from some point on worsens evenly, to 1.6 to 2.2 times."""
    start, top = rng.uniform(0.3, 0.8), math.log(rng.uniform(1.6, 2.2))
    return with_fid(run, lambda i, n, v: v * math.exp(top * max(0.0, i / (n - 1) - start) / (1 - start)))


# -- choosing -------------------------------------------------------------------------------------------


def table(runs: Sequence[Run]) -> dict[tuple[float, float], list[tuple[bool, list[Alarm]]]]:
    """For each pair of thresholds and each run: is it sick, and the alarms of the run with noise added."""
    rng = random.Random(0)
    copies = [[noisy(run, NOISE, rng) for _ in range(NOISY_COPIES)] for run in runs]
    return {
        (e, m): [
            (run.ratio > DEFINITION, [cumulative(c, e, m) for c in cs]) for run, cs in zip(runs, copies, strict=True)
        ]
        for e, m in PAIRS
    }


def choose(
    answers: dict[tuple[float, float], list[tuple[bool, list[Alarm]]]], chosen: Sequence[int]
) -> tuple[float, float]:
    """The thresholds that alarm earliest on the sick among those that stop at most 1 in 20 of the others, both with
    noise added: without noise most of the grid separates sick from healthy, and nothing would choose."""

    def quality(pair: tuple[float, float]) -> tuple[bool, float]:
        rows = [answers[pair][i] for i in chosen]
        false = [a is not None for sick, alarms in rows if not sick for a in alarms]
        left = [a if a is not None else -1.0 for sick, alarms in rows if sick for a in alarms]
        return sum(false) <= ALLOWED * len(false), statistics.mean(left) if left else 0.0

    return max(answers, key=quality)


def choose_ratio(answers: dict[float, list[Alarm]], runs: Sequence[Run], chosen: Sequence[int]) -> float:
    """The lowest ratio without a false alarm on the chosen runs, and one step of the grid more for safety."""
    clean = [r for r in RATIOS if not any(answers[r][i] is not None and runs[i].ratio <= DEFINITION for i in chosen)]
    return RATIOS[min(RATIOS.index(clean[0]) + 1, len(RATIOS) - 1)] if clean else RATIOS[-1]


def counts(runs: Sequence[Run], alarms: Sequence[Alarm], chosen: Sequence[int]) -> tuple[int, int, int, int]:
    """Hits, sick, false alarms, others."""
    sick = [i for i in chosen if runs[i].ratio > DEFINITION]
    others = [i for i in chosen if runs[i].ratio <= DEFINITION]
    hit = sum(alarms[i] is not None for i in sick)
    return hit, len(sick), sum(alarms[i] is not None for i in others), len(others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("logfile", type=Path)
    runs = [Run(log.run, log.records) for log in logs.read(parser.parse_args().logfile)]
    runs = [run for run in runs if len(run.fid) >= 5]
    half_a = [i for i, run in enumerate(runs) if hashlib.sha256(run.name.encode()).digest()[0] % 2 == 0]
    half_b = [i for i in range(len(runs)) if i not in half_a]

    def part(indices: Sequence[int], values: Sequence[Alarm]) -> tuple[list[Run], list[Alarm]]:
        return [runs[i] for i in indices], [values[i] for i in indices]

    ours = {pair: [cumulative(run, *pair) for run in runs] for pair in PAIRS}
    answers = table(runs)
    baseline = [simple(run) for run in runs]
    everything = [of(replay(run.records, Watch())) for run in runs]
    blind = [of(replay(run.records, Watch(without=["fid"]))) for run in runs]
    shipped = (scores.EXCESS, scores.LIMIT)

    sick = sum(run.ratio > DEFINITION for run in runs)
    print(f"{len(runs)} runs, {sick} of them ended above {DEFINITION} times their own best FID.\n")

    print("## Score rule: chosen on one half, reported on the other\n\n" + HEAD.format(" "))
    for name, chosen, reported in (("A", half_a, half_b), ("B", half_b, half_a)):
        pair = choose(answers, chosen)
        text = f"chosen on {name} ({len(chosen)} runs): excess {pair[0]}, limit {pair[1]}; on the other {len(reported)}"
        print(row(text, *part(reported, ours[pair])))
        print(row("the simple rule on the same runs", *part(reported, baseline)))
    print(f"\nShipped: excess {shipped[0]}, limit {shipped[1]}.")
    clean = sum(counts(runs, ours[pair], range(len(runs)))[::2] == (sick, 0) for pair in PAIRS)
    print(f"{clean} of the {len(PAIRS)} pairs of the grid stop all {sick} and none of the others of the whole file.")

    rng = random.Random(0)
    picked: Counter[tuple[float, float]] = Counter()
    total = [0, 0, 0, 0]
    worst_hits, worst_false = 1.0, 0.0
    for _ in range(HALVES):
        chosen = rng.sample(range(len(runs)), len(runs) // 2)
        rest = [i for i in range(len(runs)) if i not in chosen]
        pair = choose(answers, chosen)
        picked[pair] += 1
        one = counts(runs, ours[pair], rest)
        total = [a + b for a, b in zip(total, one, strict=True)]
        worst_hits = min(worst_hits, one[0] / one[1]) if one[1] else worst_hits
        worst_false = max(worst_false, one[2] / one[3]) if one[3] else worst_false
    print(
        f"\n{HALVES} random halves: {total[0] / max(total[1], 1):.1%} of the sick runs of the other half stopped "
        f"(worst half {worst_hits:.0%}), {total[2] / max(total[3], 1):.1%} of the others (worst half "
        f"{worst_false:.0%}). Chosen: " + ", ".join(f"{e}/{m} {n}x" for (e, m), n in picked.most_common(5))
    )

    print("\n## All rules as shipped, by definition of collapsed, all runs\n\n" + HEAD.format(" ended above "))
    for definition in DEFINITIONS:
        print(row(f"{definition} x best: all rules", runs, everything, definition))
        print(row(f"{definition} x best: the simple rule", runs, baseline, definition))

    print(
        f"\n## Noise and shapes that the file does not hold (shipped score rule, {NOISY_COPIES} copies of each run)\n"
    )
    print(
        "| noise in log FID | sick stopped | others stopped | made to decline to 1.6-2.2: stopped |\n|---|---|---|---|"
    )
    for sd in (0.0, 0.05, 0.10, 0.15):
        rng = random.Random(1)
        copies = [noisy(run, sd, rng) for run in runs for _ in range(NOISY_COPIES)]
        made = [
            noisy(declining(run, rng), sd, rng) for run in runs if run.ratio <= DEFINITION for _ in range(NOISY_COPIES)
        ]
        cells = []
        for group in (
            [c for c in copies if c.ratio > DEFINITION],
            [c for c in copies if c.ratio <= DEFINITION],
            [c for c in made if c.ratio > DEFINITION],
        ):
            both = [
                sum(rule(c) is not None for c in group) / max(len(group), 1)
                for rule in (lambda c: cumulative(c, *shipped), simple)
            ]
            cells.append(f"{both[0]:.1%} (simple {both[1]:.1%})")
        print(f"| {sd:.0%} | " + " | ".join(cells) + " |")

    print("\n## Losses alone, no FID seen\n\n" + HEAD.format(" "))
    by_ratio = {ratio: [won(run, ratio) for run in runs] for ratio in RATIOS}
    for name, chosen, reported in (("A", half_a, half_b), ("B", half_b, half_a)):
        ratio = choose_ratio(by_ratio, runs, chosen)
        print(row(f"ratio chosen on {name}: {ratio:g}; on the other half", *part(reported, by_ratio[ratio])))
    print(row(f"all rules as shipped (ratio {RATIO:g}), all runs", runs, blind))
    for ratio in RATIOS:
        print(row(f"ratio {ratio:g}, all runs", runs, by_ratio[ratio]))

    print(
        "\n## Run by run: share left at the alarm\n\n| run | last / best | half | all rules | simple | losses alone |"
    )
    print("|---|---|---|---|---|---|")
    for i, run in enumerate(runs):
        if run.ratio > min(DEFINITIONS) or everything[i] is not None or blind[i] is not None:
            cells = ("-" if a is None else f"{a:.2f}" for a in (everything[i], baseline[i], blind[i]))
            print(f"| {run.name} | {run.ratio:.2f} | {'A' if i in half_a else 'B'} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
