"""Ctrl-C in a verb that has nothing to save."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from lightning_gen.cli import main
from lightning_gen.cli.mistakes import INTERRUPTED, Verbs


def ctrl_c() -> None:
    raise KeyboardInterrupt


def ctrl_c_in_a_trainer() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)  # as Lightning does


def told_by_the_verb() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        click.echo("run saved", err=True)
        sys.exit(INTERRUPTED)


@pytest.mark.parametrize(
    ("verb", "said"),
    [(ctrl_c, "interrupted\n"), (ctrl_c_in_a_trainer, "interrupted\n"), (told_by_the_verb, "run saved\n")],
)
@pytest.mark.parametrize("whose", ["ours", "a plugin's"])
def test_ctrl_c_ends_with_130_and_one_line(
    whose: str, verb: Callable[[], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = main if whose == "ours" else Verbs()
    monkeypatch.setattr(type(group), "get_command", lambda self, ctx, name: click.Command(name, callback=verb))
    done = CliRunner().invoke(group, ["sample"])
    assert (done.exit_code, done.output) == (130, said)


def test_a_verb_that_exits_for_another_reason_keeps_its_code() -> None:
    group = Verbs()
    group.add_command(click.Command("check", callback=lambda: sys.exit(3)))
    assert CliRunner().invoke(group, ["check"]).exit_code == 3
