"""Does this machine compute the scores that it should? A fixed set, and what it scored where it was made.

The images are rendered, so nothing has to be downloaded, and every step is taken: pixels, extractor, statistics, value.
"""

from __future__ import annotations

import numpy as np

from lightning_gen.data.shapes import Shapes
from lightning_gen.metrics.evaluation import Panel, evaluate
from lightning_gen.metrics.extractors import Tiny

SHARES = ("precision", "recall", "density", "coverage", "on_manifold")

EXPECTED = {
    "fid/tiny": 0.29085944,
    "is/tiny": 1.4584703,
    "is/tiny/std": 0.021544308,
    "is/tiny/1-split": 1.4634011,
    "kid/tiny": 0.0038197114,
    "kid/tiny/std": 0.00021949311,
    "precision/tiny": 0.258,
    "recall/tiny": 0.9255,
    "density/tiny": 0.182,
    "coverage/tiny": 0.212,
    "mode_coverage": 48,
    "on_manifold": 1,
}
"""Of 1,000 images of full variation against 2,000 gentle ones."""

TOLERANCE = 1e-3
"""Relative: other processors and libraries differ by rounding, about 1e-6."""
COUNTS = 3e-3
"""Absolute, for shares of the thousand images, where rounding may move one or two of them over an edge."""


def run() -> dict[str, tuple[float, float]]:
    """For each score what it is here and what it should be."""
    made = Shapes(size=1000, variation="full", split="test")
    panel = Panel.of(Shapes(size=2000), Tiny(), ["fid", "is", "kid", "prdc", "modes"])
    (found,) = evaluate(lambda n, start: made.read(np.arange(start, start + n))["image"], [panel], len(made))
    return {name: (found[name], expected) for name, expected in EXPECTED.items()}


def wrong() -> list[str]:
    """Scores that are not what they should be, as sentences; none where all is well."""
    return [
        f"{name} of the fixed set is {here:.6g} and should be {expected:.6g}"
        for name, (here, expected) in run().items()
        if abs(here - expected) > (COUNTS if name.startswith(SHARES) else TOLERANCE * abs(expected))
    ]
