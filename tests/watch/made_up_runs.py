"""Made-up runs: healthy ones that behave as real ones do, and sick ones."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

from lightning_gen.watch import Outcome, Record, Rule, Verdict, Watch, replay


def stream(**columns: Iterable[float]) -> list[Record]:
    """Records from columns of equal length, every 1,000 images from the first thousand on."""
    names = [name.replace("__", "/") for name in columns]
    rows = zip(*columns.values(), strict=True)
    return [Record(1000 * (i + 1), dict(zip(names, row, strict=True))) for i, row in enumerate(rows)]


def verdicts(records: Iterable[Record], *rules: Rule) -> list[Verdict]:
    watch = Watch(rules or None)
    return [verdict for record in records for verdict in watch.observe(record)]


def outcome(records: Iterable[Record]) -> Outcome:
    return replay(records)


def noise(n: int, mean: float, sd: float, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(mean, sd) for _ in range(n)]


def game(n: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> list[Record]:
    """Losses of a healthy game of two networks: noise, drift, and now and then a spike."""
    rng = random.Random(seed)
    loss_d, loss_g = [], []
    for i in range(n):
        spike = 6.0 if rng.random() < 0.01 else 1.0
        loss_d.append(scale * abs(0.9 - 0.4 * i / n + rng.gauss(0, 0.15)) * spike + shift)
        loss_g.append(scale * abs(1.2 + 1.5 * i / n + rng.gauss(0, 0.4)) * spike + shift)
    return stream(loss_d=loss_d, loss_g=loss_g)


def critic(n: int, seed: int = 0, swing: float = 5.0) -> list[Record]:
    """Losses, logits and gradients of a healthy Wasserstein critic: slow large swings, a level that drifts, jumps."""
    rng = random.Random(seed)
    loss_d, loss_g, real, fake, grad = [], [], [], [], []
    level = 0.0
    for i in range(n):
        level += rng.gauss(0.1, 0.5) + (swing if rng.random() < 0.01 else 0.0)
        wave = swing * math.sin(i / 37)
        gap = abs(rng.gauss(1.5, 0.5)) + 0.1
        fake.append(level + wave)
        real.append(level + wave + gap)
        loss_g.append(-(level + wave) + rng.gauss(0, 1))
        loss_d.append(-gap + abs(rng.gauss(0, 0.05)))
        grad.append(math.exp(rng.gauss(1, 0.7)))
    return stream(loss_d=loss_d, loss_g=loss_g, logits_real=real, logits_fake=fake, grad_norm_d=grad, grad_norm_g=grad)


def curve(n: int, seed: int = 0, sd: float = 0.03, start: float = 150.0, end: float = 20.0) -> list[float]:
    """A Fréchet distance that falls and then stays, with noise."""
    rng = random.Random(seed)
    return [(end + (start - end) * math.exp(-6 * i / n)) * math.exp(rng.gauss(0, sd)) for i in range(n)]
