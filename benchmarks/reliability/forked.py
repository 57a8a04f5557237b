"""`lgen fit` in a forked process, which has everything imported: it starts in no time, and may be killed or spoilt."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lightning_gen import checkpoints, experiment  # noqa: F401 - imported here once, for every fork
from lightning_gen.cli import main as lgen


def start(*arguments: str, log: Path | None = None, first: Callable[[], None] | None = None) -> int:
    """Start it, its output in `log` or nowhere, after `first` was called in the new process; gives the process's id."""
    child = os.fork()
    if child:
        return child
    output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        if first:
            first()
        os._exit(lgen(["fit", *arguments], standalone_mode=False) or 0)
    except SystemExit as ended:
        os._exit(int(ended.code or 0))
    except BaseException as failure:
        print(repr(failure), flush=True)
        os._exit(1)


def finish(child: int) -> int:
    """Wait; the exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
