"""`lgen`: one file a verb. Nothing heavy is imported before a verb has checked what it can without it."""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from lightning_gen import __version__
from lightning_gen.cli.mistakes import Shown, Verbs
from lightning_gen.errors import UserError, nearest

GROUPS = {
    "Train": ("fit",),
    "See": ("sample", "report", "watch"),
    "Score": ("evaluate", "benchmark"),
    "Share": ("export", "push", "pull"),
    "Use": ("translate", "interpolate", "traverse", "encode", "decode", "edit", "project", "complete"),
    "What there is": ("models", "data", "extractors", "plugin", "doctor"),
}
VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)


def _at_home(word: str) -> str:
    """With `~` as the folder that it means, also in `--out=~/runs`, which shells hand over as it was typed."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + os.path.expanduser(value)


class _Verbs(Verbs):
    """Imports a verb's file when the verb is used, and names the plugin that a traceback comes from."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return importlib.import_module(f"lightning_gen.cli.{name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """By what they are for."""
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                found = [(verb, self.get_command(ctx, verb)) for verb in verbs]
                formatter.write_dl(
                    [(verb, command.get_short_help_str(limit=200)) for verb, command in found if command]
                )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_at_home(word) for word in args])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS:
            raise Shown(f"there is no `lgen {args[0]}`{nearest(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as mistake:
            raise Shown(mistake.format_message()) from mistake
        except (click.ClickException, UserError):
            raise
        except Exception as bug:
            from lightning_gen import registry

            if hasattr(bug, "add_note") and (whose := registry.author(bug)):  # Python 3.11
                bug.add_note(f"{type(bug).__name__}: {bug} (raised in {whose}, not in lightning_gen: report it there)")
            raise


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lgen")
def main() -> None:
    """Experiments with generative image models: train, sample, score, compare."""
