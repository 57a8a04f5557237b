"""The scores as torchmetrics classes, for anybody's training loop: images in, on every process, one number out.

    fid = FrechetDistance("inception-v3-compat")
    fid.update(reals, real=True)          # uint8 (N, C, H, W)
    fid.update(fakes, real=False)
    self.log_dict(fid.compute())          # {"fid/inception-v3-compat": ...}

Every process gets the value of one process that saw all images. Several of these in a `MetricCollection` take the same
calls; one network sees each batch once for all of them, and those that keep the same rows (`KernelDistance` and `PRDC`)
keep them once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_gen import registry
from lightning_gen.errors import UserError
from lightning_gen.metrics.extractors import Extractor, Features
from lightning_gen.metrics.frechet import FeatureStatistics, frechet_distance_from_statistics
from lightning_gen.metrics.inception import inception_score
from lightning_gen.metrics.kernel import kernel_distance
from lightning_gen.metrics.neighbours import prdc
from lightning_gen.metrics.scores import label

_NO_PLACE = -1
"""The index of an image that was given without one."""

_NETWORKS: WeakValueDictionary[str, Extractor] = WeakValueDictionary()
"""Extractors that some metric asked for by name: four metrics need not hold Inception four times."""

_SEEN: WeakKeyDictionary[Extractor, tuple[Tensor, Features]] = WeakKeyDictionary()
"""The last images of each extractor, and what it said of them."""


class ImageMetric(Metric):
    """What the four classes share: the network, and states that every process can add up.

    The network is no part of the module tree: it is not in checkpoints (Inception has 96 MB), optimizers, summaries or
    DDP's broadcasts, and copies of a metric share it. It follows the metric to its device. Sums are float64 and
    features float32 whatever autocast, `.half()`, `.to(dtype)` or `set_dtype` say. No random state is touched.

    `index` says where in the whole set each image of a call stands, (N,) integers from 0: a score that shuffles or
    draws subsets then does not depend on how the images were dealt to processes, and an image that came twice, as a
    distributed sampler pads its parts, counts once. Without it, rows stand in the order of ranks and calls.

    `forward` makes no sense here (one batch has no such score): call `update`, and `compute` at the end.

    Args:
        extractor: A registered name (`lgen extractors` lists them) or an instance. The names of the values say it.
            Published FIDs are those of "inception-v3-compat"; "tiny" needs no download and compares with itself.
        keep_reference: `reset` forgets the generated images alone, so that real ones need be given only once. (Mind
            Lightning's sanity check, whose real images are then kept as well; with `index` they count once.)
        options: torchmetrics' own, such as `process_group`.

    Raises:
        UserError: unknown extractor, or weights that are not there.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, extractor: str | Extractor = "tiny", *, keep_reference: bool = False, **options: Any):
        super().__init__(**options)
        self._outside = _Outside(extractor if isinstance(extractor, Extractor) else _by_name(extractor))
        self._no_rows: dict[str, Tensor] = {}
        self.keep_reference = keep_reference

    @property
    def extractor(self) -> Extractor:
        """The network."""
        return self._outside.network

    def see(self, images: Tensor) -> Features:
        """The network's features of images (N, C, H, W) uint8, on the metric's device.

        The metrics of a collection ask for the same images one after the other: the network sees them once.
        """
        network, images = self.extractor.to(self.device), images.to(self.device)
        last, features = _SEEN.get(network, (None, None))
        if last is None or features is None or last.device != images.device or not torch.equal(last, images):
            features = network(images)
            _SEEN[network] = images.clone(), features  # they may be changed in place before the next call
        return features

    def add_rows(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        """A state of rows (any, *shape), gathered from all processes."""
        self.add_state(name, [], dist_reduce_fx="cat")
        self._no_rows[name] = torch.empty(0, *shape, dtype=dtype)
        self._lay(name)

    def _lay(self, name: str) -> None:
        # torchmetrics gathers nothing at all, or something of another shape, from a process without rows: the others
        # would wait for ever. So none is without, if only rows of no length.
        setattr(self, name, [self._no_rows[name].to(self.device)])

    def keep(self, side: str, rows: Tensor, index: Tensor | None) -> None:
        """Add rows (N, D) to the states of one side ("real" or "fake").

        Raises:
            ValueError: another number of indices, not integers, or negative ones.
        """
        places = _places(index, rows)
        getattr(self, f"{side}_rows").append(rows)
        getattr(self, f"{side}_index").append(places)

    def ordered(self, side: str) -> Tensor:
        """The rows of one side from all processes: by their index and each once, or, where none has one, as they came.

        Raises:
            UserError: some have an index and some have none.
        """
        rows, index = dim_zero_cat(getattr(self, f"{side}_rows")), dim_zero_cat(getattr(self, f"{side}_index"))
        placed = index != _NO_PLACE
        if not bool(placed.any()):
            return rows
        if not bool(placed.all()):
            raise UserError(f"{type(self).__name__}: some images came with an index and some without")
        index, order = index.sort(stable=True)
        first = torch.ones_like(placed)
        first[1:] = index[1:] != index[:-1]
        return rows[order[first]]

    def numbers(self, values: Mapping[str, float]) -> dict[str, Tensor]:
        """The values as scalar float64 tensors, under names that say the extractor: `fid` becomes `fid/tiny`."""
        end = label(self.extractor)
        named = {}
        for name, value in values.items():
            score, _, detail = name.partition("/")
            named["/".join(part for part in (score, end, detail) if part)] = torch.tensor(
                value, dtype=torch.float64, device=self.device
            )
        return named

    def reset(self) -> None:
        """Forget all images, or, with `keep_reference`, the generated ones."""
        kept = {
            name: getattr(self, name) for name in self._defaults if self.keep_reference and name.startswith("real_")
        }
        for name in self._no_rows:
            setattr(self, name, [])  # torchmetrics clears lists in place, also those that a collection shares
        super().reset()
        for name in self._no_rows:
            self._lay(name)
        for name, state in kept.items():
            setattr(self, name, state)

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> nn.Module:
        # torchmetrics holds out against `.half()`, but not against `.to(torch.bfloat16)`, by which Lightning's
        # true-precision plugins convert whole modules: sums of 50,000 images would keep two digits.
        def only_move(tensor: Tensor) -> Tensor:
            moved: Tensor = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(only_move, exclude_state)


class FrechetDistance(ImageMetric):
    """Fréchet distance of generated to real images; with "inception-v3-compat" it is FID.

    Keeps sums only, 67 MB of 2,048 features for any number of images. For that reason an image that comes twice counts
    twice here: where indices say that it happened, a warning says it too.
    """

    higher_is_better = False
    plot_lower_bound = 0.0

    def __init__(self, extractor: str | Extractor = "tiny", *, keep_reference: bool = False, **options: Any):
        super().__init__(extractor, keep_reference=keep_reference, **options)
        none = FeatureStatistics.empty(self.extractor.feature_dim)
        for side in ("real", "fake"):
            self.add_state(f"{side}_count", torch.tensor(none.count), dist_reduce_fx="sum")
            self.add_state(f"{side}_total", none.total, dist_reduce_fx="sum")
            self.add_state(f"{side}_outer", none.outer, dist_reduce_fx="sum")
            self.add_rows(f"{side}_index", dtype=torch.int64)

    def update(self, images: Tensor, real: bool, index: Tensor | None = None) -> None:
        """Add images (N, C, H, W) uint8, 0..255, C 1 or 3, any N; index: see the class."""
        features = self.see(images).features
        getattr(self, _side(real) + "_index").append(_places(index, features))
        if len(features):
            # A new sum: what was made in inference mode (`trainer.validate`) may not be changed in place outside it.
            together = self._statistics(_side(real)) + FeatureStatistics.of(features)
            setattr(self, _side(real) + "_count", getattr(self, _side(real) + "_count") + len(features))
            setattr(self, _side(real) + "_total", together.total)
            setattr(self, _side(real) + "_outer", together.outer)

    def compute(self) -> dict[str, Tensor]:
        """{"fid/EXTRACTOR": distance}.

        Raises:
            UserError: fewer than two images of a kind.
        """
        for side, kind in (("real", "real"), ("fake", "generated")):
            index = dim_zero_cat(getattr(self, f"{side}_index"))
            index = index[index != _NO_PLACE]
            if twice := len(index) - len(index.unique()):
                warnings.warn(
                    f"FrechetDistance: {twice} {kind} images came twice and count twice; deal them to the processes "
                    "without padding, or reset between two passes",
                    stacklevel=2,
                )
        distance = frechet_distance_from_statistics(self._statistics("real"), self._statistics("fake"))
        return self.numbers({"fid": distance})

    def _statistics(self, side: str) -> FeatureStatistics:
        return FeatureStatistics(
            int(getattr(self, f"{side}_count")), getattr(self, f"{side}_total"), getattr(self, f"{side}_outer")
        )


class InceptionScore(ImageMetric):
    """Inception score of generated images, by the extractor's own classifier. Keeps their logits.

    Args:
        extractor: One that classifies: "tiny", "inception-v3-compat".
        splits: Number of parts over which the score is averaged.

    Raises:
        UserError: the extractor does not classify.
    """

    higher_is_better = True
    plot_lower_bound = 1.0

    def __init__(self, extractor: str | Extractor = "tiny", *, splits: int = 10, **options: Any):
        super().__init__(extractor, **options)
        if not self.extractor.logit_dim:
            raise UserError(f"InceptionScore: the extractor {self.extractor.name} does not classify")
        self.splits = splits
        self.add_rows("fake_rows", self.extractor.logit_dim)
        self.add_rows("fake_index", dtype=torch.int64)

    def update(self, images: Tensor, real: bool = False, index: Tensor | None = None) -> None:
        """Add generated images (N, C, H, W) uint8. Real ones are not looked at, so that a collection can pass them."""
        if not real:
            logits = self.see(images).logits
            assert logits is not None  # the constructor asked
            self.keep("fake", logits, index)

    def compute(self) -> dict[str, Tensor]:
        """{"is/EXTRACTOR": mean over the splits, "is/EXTRACTOR/std": deviation}.

        Raises:
            UserError: fewer images than splits.
        """
        found = inception_score(self.ordered("fake"), self.splits)
        return self.numbers({"is": found["mean"], "is/std": found["std"]})


class _PairOfSets(ImageMetric):
    """Keeps the features of both sets: 410 MB for 50,000 images of 2,048 features."""

    def __init__(self, extractor: str | Extractor = "tiny", *, keep_reference: bool = False, **options: Any):
        super().__init__(extractor, keep_reference=keep_reference, **options)
        for side in ("real", "fake"):
            self.add_rows(f"{side}_rows", self.extractor.feature_dim)
            self.add_rows(f"{side}_index", dtype=torch.int64)

    def update(self, images: Tensor, real: bool, index: Tensor | None = None) -> None:
        """Add images (N, C, H, W) uint8, 0..255, C 1 or 3, any N; index: see `ImageMetric`."""
        self.keep(_side(real), self.see(images).features, index)


class KernelDistance(_PairOfSets):
    """Kernel distance of generated to real images; with "inception-v3-compat" it is KID. Keeps all features.

    Args:
        extractor: See `ImageMetric`, as for `keep_reference`.
        subsets: How many pairs of subsets.
        subset_size: Images of each, at most as many as there are of either kind.
    """

    higher_is_better = False

    def __init__(
        self, extractor: str | Extractor = "tiny", *, subsets: int = 100, subset_size: int = 1000, **options: Any
    ):
        super().__init__(extractor, **options)
        self.subsets = subsets
        self.subset_size = subset_size

    def compute(self) -> dict[str, Tensor]:
        """{"kid/EXTRACTOR": mean over the subsets, "kid/EXTRACTOR/std": deviation}.

        Raises:
            UserError: fewer images than `subset_size`.
        """
        found = kernel_distance(self.ordered("fake"), self.ordered("real"), self.subsets, self.subset_size)
        return self.numbers({"kid": found["mean"], "kid/std": found["std"]})


class PRDC(_PairOfSets):
    """Precision, recall, density and coverage of generated against real images. Keeps all features.

    Args:
        extractor: See `ImageMetric`, as for `keep_reference`.
        k: Which neighbour a ball reaches to.
    """

    higher_is_better = True
    plot_lower_bound = 0.0

    def __init__(self, extractor: str | Extractor = "tiny", *, k: int = 3, **options: Any):
        super().__init__(extractor, **options)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        """{"precision/EXTRACTOR", "recall/…", "density/…", "coverage/…"}.

        Raises:
            UserError: `k` images or fewer of a kind.
        """
        return self.numbers(prdc(self.ordered("real"), self.ordered("fake"), self.k))


class _Outside:
    """Holds a network where torch does not look for modules, and where copies of the holder find the same one."""

    def __init__(self, network: Extractor):
        self.network = network

    def __deepcopy__(self, memo: dict[int, Any]) -> _Outside:
        return self


def _by_name(name: str) -> Extractor:
    network = _NETWORKS.get(name)
    if network is None:
        network = _NETWORKS[name] = registry.load(name, "extractors")()
    return network


def _side(real: bool) -> str:
    return "real" if real else "fake"


def _places(index: Tensor | None, rows: Tensor) -> Tensor:
    """The index of each row as int64 on its device; that of none where none was given."""
    if index is None:
        return torch.full((len(rows),), _NO_PLACE, device=rows.device)
    if index.is_floating_point() or index.shape != (len(rows),) or bool((index < 0).any()):
        raise ValueError(f"index must be {len(rows)} integers from 0, not {index.dtype} {tuple(index.shape)}")
    return index.to(rows.device, torch.int64)
