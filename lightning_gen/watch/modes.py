"""Mode collapse: many different latents, few different images; and labels that are all the same.

The fields are ratios, so that they mean the same for every data set and every feature extractor; a callback measures
them on the averaged model's samples and on a set of real images of the same size:

- `diversity`: mean distance in feature space between two samples, over the mean distance between two real images.
- `duplicates`: share of samples whose nearest other sample is closer than the nearest neighbours of 99 % of the real
  images are to each other (the 1st percentile of their nearest-neighbour distances). Of a conditional model, nearest of
  another label: it begins with one picture for each label, and one preset (`cgan`) varied them after 130 of 200 kimg.
- `class_spread`: classes in effective use, exp(entropy of the predicted classes of the samples), over the same of real
  images by the same classifier. The classifier knows other pictures than those of the data, so a low value that no
  score confirms is only warned of: `progan` on photographs had 0.27 at 30 % of its budget and ended at 0.86.
- `label_perplexity`: exp(entropy) of the labels in the training batches since the last record of it; 1 when all are
  the same. Only where the model is conditional and the data has at least two classes.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from lightning_gen.watch.record import Record, Rule, Severity, Verdict, finite, keep, number, of_family
from lightning_gen.watch.scores import EXCESS, FAMILIES, Best

WARMUP = 4
"""Checks before the rule speaks: an untrained generator draws one image, whatever the latent."""

IN_A_ROW = 3
"""Checks in a row below a limit."""

LOW = 0.4
"""Lowest healthy `diversity` and `class_spread`. Trained generators are near 1, early ones above one half."""

DUPLICATES = 0.5
"""Highest healthy share of near-duplicates; real images have 0.01 by definition."""

FALL = 0.5
"""A fall below this share of its own best level counts as well: what was there is lost. A best
`class_spread` above 1, which real images have, counts as 1: early blobs are spread more widely than shapes."""

RECOVERING = 0.25
"""Share by which a value must be better than where its low stretch began to count as on its way up: a dense network's
first images are alike, and grow apart."""

WORTH = 0.1
"""Level that recall, coverage or the share of modes must have reached before its fall means anything."""

ADVICE = (
    "Try a lower learning rate, augmentation, minibatch statistics in the discriminator, or a larger latent; look at "
    "the sample grids of before"
)


@dataclass
class ModeCollapse(Rule):
    """Samples differ less than the data does, are near-duplicates of each other, leave classes out, or recall,
    coverage or the number of modes has fallen to half of what it was."""

    name = "mode-collapse"
    reads = ("diversity", "duplicates", "class_spread", "recall", "coverage", "mode_coverage")
    also = FAMILIES
    low: float = LOW
    duplicates: float = DUPLICATES
    fall: float = FALL
    warmup: int = WARMUP
    in_a_row: int = IN_A_ROW
    seen: dict[str, int] = field(default_factory=dict, init=False)
    recent: dict[str, list[float]] = field(default_factory=dict, init=False)
    best: dict[str, float] = field(default_factory=dict, init=False)
    below: dict[str, int] = field(default_factory=dict, init=False)
    began: dict[str, float] = field(default_factory=dict, init=False)
    """Where the stretch below a limit began."""
    scores: dict[str, dict[str, float]] = field(default_factory=dict, init=False)

    def judge(self, record: Record) -> Verdict | None:
        """Each field by itself; what its last value says holds until the next one."""
        Best.take_all(self.scores, record)
        for name in record.values:
            value = finite(record, name)
            if value is not None and record.at > 0 and of_family(name, self.reads):
                self._take(name, value)
        verdicts = [self._verdict(record, name) for name in self.recent if self._lasts(name)]
        return min(verdicts, key=lambda verdict: verdict.severity == "warn", default=None)

    def _take(self, name: str, value: float) -> None:
        self.seen[name] = self.seen.get(name, 0) + 1
        recent = self.recent.setdefault(name, [])
        keep(recent, value, 3)
        if len(recent) == 3:
            self.best[name] = max(self.best.get(name, value), statistics.median(recent))
        self.below[name] = self.below.get(name, 0) + 1 if self._reason(name, value) else 0
        if self.below[name] <= 1:
            self.began[name] = value

    def _lasts(self, name: str) -> bool:
        lasting = self.below[name] >= self.in_a_row and self.seen[name] >= self.warmup + self.in_a_row
        return lasting and not self._recovering(name, self.recent[name][-1])

    def _verdict(self, record: Record, name: str) -> Verdict:
        value = self.recent[name][-1]
        severity: Severity = "stop"
        sentence = f"mode collapse: {self._reason(name, value)}, for {self.below[name]} checks in a row"
        if name == "class_spread" and self.scores and not Best.worsened(self.scores, EXCESS):
            severity = "warn"
            score, one = next(iter(self.scores.items()))
            sentence += f"; {score} does not confirm it ({number(one['newest'])})"
        return self._say(severity, "collapsed", record, {name: value}, sentence, ADVICE)

    def _recovering(self, name: str, value: float) -> bool:
        began = self.began[name]
        return value < (1 - RECOVERING) * began if name == "duplicates" else value > (1 + RECOVERING) * began

    def _reason(self, name: str, value: float) -> str | None:
        best = self.best.get(name, 0.0)
        if name == "duplicates":
            return f"{value:.0%} of the samples are near-duplicates of another" if value > self.duplicates else None
        if name in ("diversity", "class_spread"):
            level = min(best, 1.0) if name == "class_spread" else best
            limit = max(self.low, self.fall * level)
            what = "samples differ from each other" if name == "diversity" else "samples are spread over the classes"
            return (
                f"{what} only {number(value)} times as much as real images (limit {number(limit)})"
                if (value < limit)
                else None
            )
        if best >= WORTH and value < self.fall * best:
            return f"{name} has fallen to {number(value)} from {number(best)}"
        return None


ALIKE = 1.1
"""Perplexity of the labels below which they are all the same but for stray ones (98.5 % of one class of two)."""


@dataclass
class SameLabels(Rule):
    """A conditional model is fed one label only: most often one folder level too many."""

    name = "same-labels"
    reads = ("label_perplexity",)
    alike: float = ALIKE
    below: int = field(default=0, init=False)

    def judge(self, record: Record) -> Verdict | None:
        """Two records in a row, since the first may hold few labels."""
        value = finite(record, "label_perplexity")
        if value is None:
            return None
        self.below = self.below + 1 if value < self.alike else 0
        if self.below < 2:
            return None
        sentence = (
            "the model is conditional and all labels are the same: "
            f"{value:.2f} classes in effective use over the last batches"
        )
        advice = "Look at the data's labels: a folder of images for each class, no level between"
        return self._say("stop", "collapsed", record, {"label_perplexity": value}, sentence, advice)
