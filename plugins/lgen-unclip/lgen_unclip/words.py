"""Sentences as numbers of words: the words of the data, most frequent first, and nothing below them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lightning_gen.errors import UserError, nearest

PAD, END, UNKNOWN = range(3)
"""Tokens that are no words; the first word of a vocabulary has the number after them."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")  # don't is one word, with either apostrophe


def split(caption: str) -> list[str]:
    """The words of a sentence, in lower case."""
    return _WORD.findall(caption.lower())


def frequent(captions: Iterable[str], most: int, at_least: int = 1) -> list[str]:
    """The `most` words that stand most often in `captions`, each `at_least` times; equally frequent ones by name."""
    counts = Counter(word for caption in captions for word in split(caption))
    kept = sorted((-count, word) for word, count in counts.items() if count >= at_least)
    return [word for _, word in kept[:most]]


class Vocabulary:
    """Numbers of known words.

    Args:
        words: In the order of their numbers.
        context: Most tokens of a sentence; what is longer is cut.
    """

    def __init__(self, words: Sequence[str], context: int):
        self.numbers = {word: number for number, word in enumerate(words, UNKNOWN + 1)}
        self.context = context

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return UNKNOWN + 1 + len(self.numbers)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Tokens (B, L) int64 of sentences, L that of the longest: each ends with END, then follows PAD."""
        known = [[self.numbers.get(word, UNKNOWN) for word in split(caption)] for caption in captions]
        rows = [[*row[: self.context - 1], END] for row in known]
        length = max(map(len, rows))
        return torch.tensor([row + [PAD] * (length - len(row)) for row in rows])

    def require(self, captions: Iterable[str]) -> None:
        """See to it that every word of what a user wrote was learnt.

        Raises:
            UserError: one was not; an image that ignored it would look like an answer.
        """
        for caption in dict.fromkeys(captions):
            for word in split(caption):
                if word not in self.numbers:
                    known = list(self.numbers)
                    some = f" (it knows {len(known):,}, such as {', '.join(known[:6])})" if known else ""
                    raise UserError(f"the model has not learnt the word {word!r}{nearest(word, known) or some}")
