"""What makes a score worth less than it looks, in sentences."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from lightning_gen.metrics.evaluation import Panel

FEW_REFERENCES = 2048
"""A reference of fewer images has a covariance of Inception's 2,048 features that is not of full rank."""


class Inspection:
    """Looks at generated images while they pass, for what no score would tell."""

    def __init__(self) -> None:
        self.count = 0
        self.constant = 0
        """Images of a single colour."""
        self._seen: set[bytes] = set()

    def look(self, pixels: Tensor) -> Tensor:
        """Count `pixels`, (N, C, H, W) uint8, or points, and pass them on."""
        if pixels.dtype == torch.uint8:  # points have one pixel each
            flat = pixels.flatten(2)
            self.constant += int((flat.amax(2) == flat.amin(2)).all(1).sum())
        self.count += len(pixels)
        self._seen.update(
            hashlib.blake2b(row.tobytes(), digest_size=12).digest() for row in pixels.cpu().contiguous().numpy()
        )
        return pixels

    @property
    def copies(self) -> int:
        """Images that equal an earlier one to the last level."""
        return self.count - len(self._seen)

    def doubts(self) -> list[str]:
        """What it found, if anything."""
        found = []
        if self.copies > self.count / 100:
            found.append(f"{self.copies:,} of {self.count:,} images are exact copies of others")
        if self.constant:
            found.append(f"{self.constant:,} of {self.count:,} images show a single colour")
        return found


def of_numbers(panel: Panel, n: int) -> list[str]:
    """Too few images for the scores of `panel` to mean much, when `n` are scored."""
    wide, references = panel.extractor.feature_dim, len(panel.reference.source)
    found = []
    if any("statistics" in score.needs for score in panel.scores.values()) and n <= wide:
        found.append(
            f"{n:,} images for {wide:,} features of {panel.extractor.name}: a Fréchet distance of so few is too high"
        )
    if references < FEW_REFERENCES:
        found.append(f"the reference has only {references:,} images; below {FEW_REFERENCES:,} a score says little")
    return found


def same_images(digest: str, panel: Panel) -> list[str]:
    """The images scored, of content `digest`, are the reference itself."""
    if digest != panel.reference.source.digest():
        return []
    return ["the reference is the very set that is scored: a perfect score says nothing"]
