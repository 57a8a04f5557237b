"""What a run has learnt: sentences found again for pictures, and pictures that show what was asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lgen_unclip.captions import Captions
from lgen_unclip.unclip import UnCLIP
from lightning_gen import images
from lightning_gen.data import shapes
from lightning_gen.data.decoder import decode

BLOCK = 64


class Asked(NamedTuple):
    """Sentences about `shapes` and the label that each stands for."""

    captions: list[str]
    labels: np.ndarray


def every_caption(most: int | None = None) -> Asked:
    """All sentences that `shapes` can have: 48 labels, large and small, on each ground; with `most` so many of them,
    drawn once for ever."""
    rows = np.array(list(itertools.product(range(len(shapes.CLASS_NAMES)), range(len(shapes.BACKGROUNDS)), (0, 1))))
    if most is not None:
        rows = rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:most])]
    label, ground, large = rows.T
    factors = {
        "shape": label // len(shapes.COLOURS),
        "colour": label % len(shapes.COLOURS),
        "background": ground,
        "size": np.where(large == 1, np.inf, -np.inf),
    }
    return Asked(shapes.captions(factors), label)


def of_pairs(asked: Asked, names: Sequence[str]) -> np.ndarray:
    """Which sentences are about one of the pairs `names`, such as "red circle": (N,) bool."""
    return np.isin(asked.labels, [shapes.CLASS_NAMES.index(name) for name in names])


def retrieval(model: UnCLIP, source: Captions, n: int) -> dict[str, float]:
    """How often the sentence that CLIP puts nearest to one of the first `n` pictures is true of it, and of how many.

    Of `shapes` it is chosen among all sentences there are; else among those of these pictures, of which several may
    belong to one.
    """
    read = source.read(np.arange(min(n, len(source))))
    sentences = every_caption().captions if source.class_names else list(dict.fromkeys(read["caption"]))
    texts = model.embed_captions(sentences)
    pictures = model.embed_images(images.from_uint8(read["image"]))
    nearest = (pictures @ texts.T).argmax(1).tolist()
    if source.class_names:
        right = [sentences[i] == caption for i, caption in zip(nearest, read["caption"], strict=True)]
    else:
        told = _of_each_picture(read["image"], read["caption"])
        right = [sentences[i] in told[_key(image)] for i, image in zip(nearest, read["image"], strict=True)]
    return {"retrieval": float(np.mean(right)), "sentences": len(sentences), "pictures": len(right)}


def _of_each_picture(pictures: Tensor, captions: Sequence[str]) -> dict[bytes, set[str]]:
    told: dict[bytes, set[str]] = {}
    for picture, caption in zip(pictures, captions, strict=True):
        told.setdefault(_key(picture), set()).add(caption)
    return told


def _key(picture: Tensor) -> bytes:
    content: bytes = picture.numpy().tobytes()
    return content


class Right(NamedTuple):
    """Of each image, whether it shows what was asked for: (N,) bool."""

    shape: np.ndarray
    colour: np.ndarray
    on_manifold: np.ndarray

    def of(self, rows: np.ndarray) -> dict[str, float]:
        """The shares among some of them."""
        both = self.shape & self.colour
        parts = {"shape": self.shape, "colour": self.colour, "both": both, "on_manifold": self.on_manifold}
        return {name: float(part[rows].mean()) for name, part in parts.items()}


def drawn(model: UnCLIP, asked: Asked, *, seed: int, guidance: float) -> Right:
    """One image for each sentence, read back by the exact decoder of `shapes`."""
    parts = [
        model.sample(
            stop - first, seed=seed, start=first, condition={"caption": asked.captions[first:stop]}, guidance=guidance
        )
        for first, stop in _blocks(len(asked.captions))
    ]
    found = decode(images.to_uint8(torch.cat(parts)))
    shape, colour = np.divmod(asked.labels, len(shapes.COLOURS))
    return Right(found.shape == shape, found.colour == colour, found.on_manifold)


def _blocks(n: int) -> Iterator[tuple[int, int]]:
    for first in range(0, n, BLOCK):
        yield first, min(first + BLOCK, n)
