"""The one exception that means: the user can mend this."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager


class UserError(Exception):
    """What was asked cannot be done, and the message says why in the user's own words.

    The command line prints the message alone, one or two lines, and exits with code 2. Anything else that is
    raised is a bug of ours: traceback, code 1.
    """


class StrangerError(UserError):
    """A part of another distribution failed; whatever does not use it goes on."""


@contextmanager
def said_as(words: Mapping[str, str]) -> Iterator[None]:
    """Inside, what a `UserError` says is said in the words of the verb that was typed: each key, in turn, by its value.

    Raises:
        UserError: the same, of the same class, in those words.
    """
    try:
        yield
    except UserError as reason:
        said = str(reason)
        for theirs, ours in words.items():
            said = said.replace(theirs, ours)
        raise type(reason)(said) from reason


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'progan'?`` for the known name nearest to `word`, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def without_labels(model: str, optional: bool = False) -> UserError:
    """What a conditional model raises when the data has no classes; `optional` where labels are a setting of it."""
    asked, or_else = (" with --model.conditional true", ", or --model.conditional false") if optional else ("", "")
    return UserError(
        f"{model}{asked} draws the class it is asked for, and this data has no labels: take --data shapes, cifar10, "
        f"mnist or fashion-mnist, or a folder with one sub-folder for each class{or_else}"
    )
