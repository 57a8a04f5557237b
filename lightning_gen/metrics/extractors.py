"""Networks that turn pictures into the features and logits that scores are computed from.

Registered in the entry-point group `lightning_gen.extractors`; constructed as `cls()`, `cls(weights=FILE)`,
`cls(resize=NAME)` or with both.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.metrics.resizes import check_resize
from lightning_gen.metrics.tiny import CLASSES, FEATURES, SIZE, TinyNet
from lightning_gen.metrics.weights import file_digest


class Features(NamedTuple):
    """What an extractor says about N pictures."""

    features: Tensor
    """(N, D) float32."""
    logits: Tensor | None
    """(N, K) float32 before the softmax, None where the network does not classify."""


class Extractor(nn.Module):
    """A fixed network: pictures (N, C, H, W) uint8, C 1 or 3, to `Features`.

    Always in eval mode, without gradients, in float32 whatever autocast or `.to(dtype)` says, and touches no random
    state. A subclass fills the attributes, and `extract`. A feature is the same to float rounding whatever batch the
    picture came in; for the same bits use the same batch size.

    Args:
        resize: one of `resizes`, the first when left out.

    Raises:
        UserError: an unknown resize.
    """

    name: str
    """The registered name; scores carry it. A subclass says its own: an inherited one is refused."""
    feature_dim: int
    logit_dim: int | None
    resizes: ClassVar[tuple[str, ...]]
    """Names of the ways from the picture's size to the network's, the usual one first."""
    resize: str
    """The one that was chosen."""
    weights_digest: str
    """First 12 hex digits of the weights file's sha256."""

    def __init__(self, resize: str | None = None):
        super().__init__()
        usual = self.resizes[0]
        self.resize = usual if resize is None else check_resize(resize, self.resizes, f"extractor {self.name}")

    @classmethod
    def at_hand(cls) -> bool:
        """Whether the weights are on this machine, so that nothing would be downloaded."""
        return True

    def extract(self, images: Tensor) -> Features:
        """The network itself. images: (N, 3, H, W) uint8, on the device of the weights, autocast and gradients off."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Features:
        """Features of pictures (N, C, H, W) uint8, C 1 (repeated to 3) or 3, any size, on the device of the weights.

        Raises:
            TypeError: not a uint8 tensor. Floats have no one range: convert with `lightning_gen.images.to_uint8`. Or
                `extract` gives something else than `feature_dim` features of each.
            ValueError: another shape.
        """
        if not isinstance(images, Tensor) or images.dtype != torch.uint8:
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(f"extractor {self.name} takes images as uint8 tensors, 0..255, not {kind}")
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"extractor {self.name} takes images (N, 1 or 3, H, W), not {tuple(images.shape)}")
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        if len(images) == 0:  # which not every network can reshape
            none = torch.empty(0, device=images.device)
            return Features(none.view(0, self.feature_dim), none.view(0, self.logit_dim) if self.logit_dim else None)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            found = self.extract(images)
        if not isinstance(found, Features) or found.features.shape != (len(images), self.feature_dim):
            given = tuple(found.features.shape) if isinstance(found, Features) else type(found).__name__
            raise TypeError(f"of {len(images)} images it gives {given}, not Features of {self.feature_dim} each")
        return found

    def train(self, mode: bool = True) -> Extractor:
        """Stays in eval mode, also as a part of a module that is trained."""
        return super().train(False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        # `.to(device)` moves the weights; `.to(bfloat16)`, as Lightning's true-precision plugins do to whole modules,
        # would change every score.
        def only_move(tensor: Tensor) -> Tensor:
            moved: Tensor = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(only_move, recurse)


class Tiny(Extractor):
    """A small CIFAR-10 classifier whose weights ship with the package, for an FID-like number without a download.

    Its scores rank runs of one project; they are not FID, and do not compare with published ones.

    Args:
        weights: another file made by `benchmarks/tiny/train.py`.
        resize: there is one.

    Raises:
        UserError: the file is not there, or not such a file; an unknown resize.
    """

    name = "tiny"
    feature_dim = FEATURES
    logit_dim = CLASSES
    resizes = ("antialiased-bicubic",)

    def __init__(self, weights: str | None = None, resize: str | None = None):
        super().__init__(resize)
        path = Path(weights) if weights else Path(__file__).with_name("tiny.safetensors")
        with torch.device("meta"):  # draws no random numbers
            self.net = TinyNet()
        try:
            stored = {name: value.float() for name, value in load_file(path).items()}
            self.net.load_state_dict(stored, assign=True)
        except OSError as reason:
            raise UserError(
                f"weights of extractor tiny: {path} cannot be read ({reason.strerror or reason})"
            ) from reason
        except (SafetensorError, RuntimeError) as reason:
            raise UserError(f"weights of extractor tiny: {path} was not made by benchmarks/tiny/train.py") from reason
        self.weights_digest = file_digest(path)
        self.requires_grad_(False)
        self.eval()

    def extract(self, images: Tensor) -> Features:
        """Another size than 32x32 is resized by a bicubic filter as wide as the reduction; values stay in 0..255."""
        pictures = images.float().contiguous(memory_format=torch.channels_last)  # a quarter faster
        if pictures.shape[-2:] != (SIZE, SIZE):
            pictures = F.interpolate(pictures, (SIZE, SIZE), mode="bicubic", align_corners=False, antialias=True)
            pictures = pictures.clamp_(0, 255)  # bicubic overshoots at edges
        return Features(*self.net(pictures))
