"""From images to their scores: one sampling pass, one pass of each extractor, every metric fed from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_gen import execution, registry
from lightning_gen.data.source import Source
from lightning_gen.errors import UserError
from lightning_gen.images import NotFinite
from lightning_gen.metrics.directions import BETTER
from lightning_gen.metrics.extractors import Extractor, Features
from lightning_gen.metrics.features import FeatureSet, Kind
from lightning_gen.metrics.passport import Passport, Plain
from lightning_gen.metrics.reference import Progress, Reference, silent
from lightning_gen.metrics.scores import Score

BLOCK = 256
"""Images that an extractor sees at once, whatever the number of processes: equal batches give equal features."""


@dataclass
class Panel:
    """Scores of one protocol: one extractor, one reference, and what is computed from the two."""

    reference: Reference
    scores: dict[str, Score]
    """By the names that they are registered under."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Metrics that the data, the extractor or the number of images does not allow, and why not."""

    @classmethod
    def of(
        cls,
        source: Source,
        extractor: Extractor,
        names: Sequence[str],
        progress: Progress = silent,
        n: int | None = None,
    ) -> Panel:
        """The registered metrics `names`, as far as they fit, also to `n` generated images where that is known."""
        panel = cls(Reference(source, extractor, progress), {})
        for name in names:
            score_class = registry.load(name, "metrics")
            if source.kind != "image" and score_class.needs != {"pixels"}:
                panel.left_out[name] = f"an extractor sees pictures, no {source.kind}"
            elif reason := score_class.unfit(source, extractor) or (n and score_class.too_few(n, source)):
                panel.left_out[name] = reason
            else:
                panel.scores[name] = registry.make(name, "metrics", panel.reference)
        return panel

    @property
    def extractor(self) -> Extractor:
        """The reference's and the generated images' alike."""
        return self.reference.extractor

    @property
    def needs(self) -> frozenset[Kind]:
        """What the scores want of the generated images."""
        return frozenset[Kind]().union(*(score.needs for score in self.scores.values()))

    def look(self, pixels: Tensor) -> Features:
        """What the extractor says of a block of images; it sees neither points nor volumes."""
        if self.reference.source.kind != "image":
            return Features(torch.empty(len(pixels), 0), None)
        return self.reference.look(pixels)

    def prepare(self) -> None:
        """Compute or load what the scores want of the reference."""
        for name, score in self.scores.items():
            with registry.blamed(name, "metrics", "cannot be prepared"):
                score.prepare()

    def passport(self, n: int, rounding: str, **subject: Any) -> Passport:
        """How `n` images are scored here; `subject` are the fields that say which images they are."""
        settings: dict[str, Plain] = {}
        for score in self.scores.values():
            settings |= score.settings(n)
        source = self.reference.source
        used, code = self.extractor, self.reference.extractor_code
        seen = ("none", "", "none", "")  # by what is no image
        if source.kind == "image":
            seen = (used.name, used.weights_digest, used.resize, code)
        name, weights_digest, resize, code = seen
        return Passport(
            extractor=name,
            weights_digest=weights_digest,
            resize=resize,
            extractor_code=code,
            rounding="none" if source.kind == "points" else rounding,
            n_fake=n,
            reference_digest=source.digest(),
            n_reference=len(source),
            split=source.split,
            settings=settings,
            reference=source.title,
            **subject,
        )


@torch.no_grad()
def evaluate(
    draw: Callable[[int, int], Tensor],
    panels: Sequence[Panel],
    n: int,
    progress: Progress = silent,
    *,
    labels: Tensor | None = None,
) -> list[dict[str, float]]:
    """The scores of images 0 .. n under each panel, the same on every rank.

    The images are cut into blocks, and block b belongs to rank b modulo ranks: each is drawn and seen by an extractor
    once, in a batch that does not depend on the number of ranks. Features are gathered in the order of the images; no
    score is ever averaged over ranks and no image counted twice.

    Args:
        draw: `draw(count, start)` gives images start .. start + count, (count, C, H, W) uint8; points are floats.
        panels: What to compute; all see the same images.
        n: Number of images.
        progress: Shows how far it is.
        labels: What images 0 .. n were asked to show, (n,) int64, where a model was.

    Raises:
        NotFinite: the model draws NaN or infinity, on whichever rank: there is no score of that.
        UserError: two metrics give a number the same name, or a stranger's gives no numbers or takes a name of ours.
    """
    execution.keep_freed_memory()
    ranks, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    sets = [FeatureSet(n, panel.needs) for panel in panels]
    starts = range(0, n, BLOCK)
    for first in progress(range(0, len(starts), ranks), "drawing and scoring"):
        mine = range(starts[first + rank], min(starts[first + rank] + BLOCK, n)) if first + rank < len(starts) else ()
        for seen in _of_all_ranks(_see(draw, panels, mine), ranks):
            if isinstance(seen, NotFinite):
                raise seen  # on every rank: one that went on would wait for the others for ever
            for found, (features, pixels) in zip(sets, seen, strict=True):
                found.add(features, pixels)
    for found in sets:
        found.labels = labels
    return [_scores(panel, found) for panel, found in zip(panels, sets, strict=True)]


def _scores(panel: Panel, found: FeatureSet) -> dict[str, float]:
    """What each metric says of the images, by the names of the numbers."""
    scores: dict[str, float] = {}
    whose: dict[str, str] = {}
    for metric, score in panel.scores.items():
        with registry.blamed(metric, "metrics", "cannot be computed"):
            given = {name: float(value) for name, value in score.compute(found).items()}
        stranger = registry.part(metric, "metrics").distribution != registry.OURS
        for name in given:
            family, _, extractor = name.partition("/")
            if stranger and extractor and family in BETTER:
                raise UserError(f"the metric {metric} gives {name!r}, a name of {registry.OURS}'s scores: rename it")
            if whose.setdefault(name, metric) != metric:
                raise UserError(f"the metrics {whose[name]} and {metric} both give {name!r}: leave one out")
        scores |= given
    return scores


Seen = list[tuple[Features, Tensor]]
"""What each panel keeps of one block; empty where there was no block."""


def _see(draw: Callable[[int, int], Tensor], panels: Sequence[Panel], block: Sequence[int]) -> Seen | NotFinite:
    """Draw a block and hand it to every extractor."""
    if not block:
        return []
    try:
        pixels = draw(len(block), block[0])
    except NotFinite as failure:
        return failure
    return [(panel.look(pixels), pixels) for panel in panels]


def _of_all_ranks(seen: Seen | NotFinite, ranks: int) -> list[Any]:
    """What every rank saw, in the order of the ranks, without ranks that had nothing to do."""
    if ranks == 1:
        everyones: list[Any] = [seen]
    else:
        everyones = [None] * ranks
        dist.all_gather_object(everyones, seen)
    return [seen for seen in everyones if isinstance(seen, NotFinite) or seen]
