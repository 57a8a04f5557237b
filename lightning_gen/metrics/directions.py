"""Which way a score is better."""

from __future__ import annotations

BETTER = {
    "fid": "↓",
    "is": "↑",
    "kid": "↓",
    "precision": "↑",
    "recall": "↑",
    "density": "↑",
    "coverage": "↑",
    "mode_coverage": "↑",
    "on_manifold": "↑",
    "modes_covered": "↑",
    "mode_kl": "↓",
    "label_accuracy": "↑",
    "shape_kept": "↑",
    "colour_kept": "↑",
    "place_kept": "↑",
    "psnr": "↑",
    "ssim": "↑",
    "lpips": "↓",
    "ifid": "↓",
    "colour_accuracy": "↑",
    "high_quality": "↑",
    "shape_accuracy": "↑",
}
"""Known scores, or families of them (`fid` of `fid/tiny`), in the order that tables show them in."""


def rises(score: str) -> bool:
    """Whether more of it is better, as of `is/tiny`; of a score that nobody knows less is."""
    return BETTER.get(score.split("/", 1)[0]) == "↑"
