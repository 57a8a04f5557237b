"""A user's mistake on a command line, for our verbs and for those that plugins bring."""

from __future__ import annotations

from typing import Any

import click

from lightning_gen.errors import UserError


class Shown(click.ClickException):
    """A user's mistake: the message alone, exit code 2."""

    exit_code = 2


class Verbs(click.Group):
    """The commands of a plugin: `click.group(cls=Verbs)` shows what is wrong in the words of a UserError."""

    def invoke(self, ctx: click.Context) -> Any:
        """As any group, with a UserError turned into its message."""
        try:
            return super().invoke(ctx)
        except UserError as mistake:
            raise Shown(str(mistake)) from mistake
