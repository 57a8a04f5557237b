"""A user's mistake or Ctrl-C on a command line, for our verbs and for those that plugins bring."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from lightning_gen.errors import UserError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the signal's number."""


class Shown(click.ClickException):
    """A user's mistake: the message alone, exit code 2."""

    exit_code = 2


class Verbs(click.Group):
    """The commands of a plugin: `click.group(cls=Verbs)` shows what is wrong in the words of a UserError, and ends on
    Ctrl-C as `lgen` does."""

    def invoke(self, ctx: click.Context) -> Any:
        """As any group, with a UserError turned into its message, unless LGEN_DEBUG is set, and Ctrl-C into one word
        and INTERRUPTED, unless a verb has said more and ended so itself."""
        try:
            return super().invoke(ctx)
        except UserError as mistake:
            if os.environ.get("LGEN_DEBUG"):
                raise
            raise Shown(str(mistake)) from mistake
        except (KeyboardInterrupt, SystemExit) as end:
            # Lightning makes an exit code of 1 of it
            ctrl_c = isinstance(end, KeyboardInterrupt) or isinstance(end.__context__, KeyboardInterrupt)
            if not ctrl_c or getattr(end, "code", None) == INTERRUPTED:
                raise
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
