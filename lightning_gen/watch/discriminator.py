"""A discriminator that has won: it tells real from fake without effort, and the generator learns nothing more."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from lightning_gen.watch.record import Record, Rule, Verdict, finite, keep, number
from lightning_gen.watch.scores import FAMILIES, Best

WINDOW = 50
"""Records over which the medians are taken: the lead must last."""

WARMUP = 50
"""Records before the rule speaks: at the start of training every discriminator leads for a while."""

RATIO = 30.0
"""The generator's loss over the discriminator's, medians over the window. In the public logs the healthy runs stay
below 22 (BigGAN, at its end; StyleGAN2 at 14), the runs that collapse behind a discriminator pass 77."""

SATURATED = 5.0
"""Logit beyond which a sigmoid is within 0.7 % of its end: real images above it and fakes below minus it."""

RELEASE = 0.5
"""Share of a limit under which a lead that was reported must fall before it is over: else one trouble is told often."""

HELD = 1.25
"""While the newest score is within this factor of the run's best, the lead does no harm yet: it is only warned of."""


@dataclass
class WonDiscriminator(Rule):
    """The discriminator's loss is next to nothing beside the generator's, or its logits are saturated on both sides.

    For losses that are never negative (non-saturating, least squares, hinge, class and contrastive terms added or
    not); a Wasserstein critic shows itself by a negative loss and is left to the other rules.
    """

    name = "won-discriminator"
    reads = ("loss_d",)
    also = FAMILIES
    ratio: float = RATIO
    saturated: float = SATURATED
    window: int = WINDOW
    warmup: int = WARMUP
    losses_d: list[float] = field(default_factory=list, init=False)
    losses_g: list[float] = field(default_factory=list, init=False)
    real: list[float] = field(default_factory=list, init=False)
    fake: list[float] = field(default_factory=list, init=False)
    seen: int = field(default=0, init=False)
    scores: dict[str, dict[str, float]] = field(default_factory=dict, init=False)

    def judge(self, record: Record) -> Verdict | None:
        """Take in losses, logits and scores; speak where losses or logits have been won for a whole window."""
        Best.take_all(self.scores, record)
        loss_d, loss_g = finite(record, "loss_d"), finite(record, "loss_g")
        if loss_d is not None and loss_g is not None:
            self.seen += 1
            keep(self.losses_d, loss_d, self.window)
            keep(self.losses_g, loss_g, self.window)
            real, fake = finite(record, "logits_real"), finite(record, "logits_fake")
            if real is not None and fake is not None:
                keep(self.real, real, self.window)
                keep(self.fake, fake, self.window)
        if self.seen < self.warmup + self.window or min(self.losses_d) < 0:
            return None
        return self._by_losses(record) or self._by_logits(record)

    def _by_losses(self, record: Record) -> Verdict | None:
        d, g = statistics.median(self.losses_d), abs(statistics.median(self.losses_g))
        if g <= self.ratio * d * (RELEASE if self.reported else 1.0):
            return None
        sentence = (
            f"the discriminator has won: over the last {self.window} records its loss is {number(d)}, the generator's "
            f"{number(g)}"
        )
        return self._verdict(record, {"loss_d": d, "loss_g": g}, sentence)

    def _by_logits(self, record: Record) -> Verdict | None:
        if len(self.real) < self.window:
            return None
        real, fake = statistics.median(self.real), statistics.median(self.fake)
        limit = self.saturated * (RELEASE if self.reported else 1.0)
        if real < limit or fake > -limit:
            return None
        sentence = (
            f"the discriminator has won: over the last {self.window} records its logits are {number(real)} for real "
            f"images and {number(fake)} for fakes, it is never in doubt"
        )
        return self._verdict(record, {"logits_real": real, "logits_fake": fake}, sentence)

    def _verdict(self, record: Record, values: dict[str, float], sentence: str) -> Verdict:
        holding = Best.holding(self.scores, HELD)
        if holding:
            name, newest, best = holding
            values |= {name: newest}
            sentence += f"; {name} still holds ({number(newest)}, best {number(best)})"
        advice = (
            "Try a gradient penalty or spectral norm, fewer discriminator steps, a lower discriminator learning rate, "
            "or augmentation of what it sees"
        )
        return self._say("warn" if holding else "stop", "collapsed", record, values, sentence, advice)


VANISHED = 1e-3
"""Share of its own highest level at which the generator's gradient counts as vanished. It falls as training settles,
to a fortieth in healthy runs of this package; a dead network's is exactly 0."""


@dataclass
class VanishedGradient(Rule):
    """The generator's gradient has all but vanished: nothing it does is rewarded any more."""

    name = "vanished-gradient"
    reads = ("grad_norm_g",)
    vanished: float = VANISHED
    window: int = WINDOW
    norms: list[float] = field(default_factory=list, init=False)
    highest: float = field(default=0.0, init=False)

    def judge(self, record: Record) -> Verdict | None:
        """Compare the median over the window with the highest it has been."""
        norm = finite(record, "grad_norm_g")
        if norm is None:
            return None
        keep(self.norms, norm, self.window)
        if len(self.norms) < self.window:
            return None
        level = statistics.median(self.norms)
        self.highest = max(self.highest, level)
        if level > self.vanished * self.highest:
            return None
        sentence = (
            f"the generator's gradient has vanished: a norm of {number(level)} over the last {self.window} records, "
            f"{number(self.highest)} at its highest"
        )
        advice = "Try a non-saturating loss, a gradient penalty, or a lower learning rate; a network may be dead"
        return self._say("stop", "collapsed", record, {"grad_norm_g": level}, sentence, advice)
