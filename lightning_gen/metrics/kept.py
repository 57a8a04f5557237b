"""Whether a translation of `shapes` still shows what it was made from."""

from __future__ import annotations

import numpy as np

from lightning_gen.data.source import Source
from lightning_gen.metrics.extractors import Extractor
from lightning_gen.metrics.features import FeatureSet
from lightning_gen.metrics.scores import Score

NEAR = 2 / 16
"""How far the centre may move along each axis, in half sides of the picture: 2 of 32 pixels."""


class Kept(Score):
    """Shares of translations whose nearest shape, colour and place are those of the picture they were made from.

    The exact decoder names the nearest ones, on its manifold or not; chance is 1 in 6 for the shape, 1 in 8 for the
    colour.
    """

    needs = frozenset({"pixels"})
    row_by_row = True

    @classmethod
    def unfit(cls, source: Source, extractor: Extractor) -> str:
        """The truth must be known, and the translations shapes that the decoder reads."""
        known = len(source.views) == 2 and source.image_shape[0] == 3 and source.truth(np.arange(1)) is not None
        return "" if known else "only translations to the shapes of `shapes` have an exact decoder"

    def compute(self, generated: FeatureSet) -> dict[str, float]:
        """{"shape_kept", "colour_kept", "place_kept"} of the first 2,000."""
        from lightning_gen.data import decoder  # renders its templates when it is imported

        source = self.reference.source
        pixels = generated.pixels[: decoder.SAMPLE]
        found = decoder.decode(pixels).factors
        truth = source.truth(np.arange(len(pixels)) % len(source))
        assert truth is not None
        moved = np.maximum(abs(found["x"] - truth["x"]), abs(found["y"] - truth["y"]))
        kept = {name: found[name] == truth[name] for name in ("shape", "colour")} | {"place": moved <= NEAR}
        return {f"{name}_kept": float(rows.mean()) for name, rows in kept.items()}
