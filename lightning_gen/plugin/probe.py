"""Loads and checks parts in a process of their own, where one that hangs, crashes or leaves harms nobody."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning_gen import registry
from lightning_gen.errors import UserError
from lightning_gen.registry import Part

DOING = {"load": "being imported", "check": "being checked"}

START = 60.0
"""Seconds that the process may take besides: Python, torch, a slow disk."""


@dataclass(frozen=True)
class Verdict:
    """What came of one part: `ready`, `broken` or `skipped`, and why."""

    state: str
    reason: str = ""


def probe(task: str, parts: Sequence[Part], limit: float) -> Iterator[tuple[Part, Verdict]]:
    """Do `task` with each of the parts, in one process as long as it lives; verdicts come as they are found.

    Args:
        task: `load` imports, `check` does also what `lightning_gen.testing` does.
        parts: Of one distribution; what they do to the process is shared between them.
        limit: Seconds that each of them may take.
    """
    waiting = list(parts)
    while waiting:
        # whoever ends the process gets a verdict; those behind it go on in another one
        for verdict in _run(task, list(waiting), limit):
            yield waiting.pop(0), verdict


def _run(task: str, parts: list[Part], limit: float) -> Iterator[Verdict]:
    """Verdicts of the first parts, at least one."""
    with tempfile.TemporaryDirectory() as home:
        report, hung, log = Path(home, "report"), Path(home, "hung"), Path(home, "log")
        report.touch()
        told = [{"kind": part.kind, "name": part.name, "file": part.code.spec if part.code else None} for part in parts]
        order = json.dumps({"task": task, "parts": told, "limit": limit, "report": str(report), "hung": str(hung)})
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, order],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        told_so_far = 0
        end = time.monotonic() + START + limit * len(parts)
        try:
            code = None
            while code is None and time.monotonic() < end:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(0.1)
                for line in report.read_text().splitlines(keepends=True)[told_so_far:]:
                    if line.endswith("\n"):
                        told_so_far += 1
                        yield Verdict(**json.loads(line))
        finally:
            _end(process)
        if told_so_far < len(parts):
            said = log.read_text(errors="replace").strip().splitlines()
            stack = hung.read_text() if hung.is_file() else ""
            yield Verdict("broken", _death(code, stack, said, parts[told_so_far], f"{DOING[task]} after {limit:g} s"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """With the processes that it started."""
    with contextlib.suppress(ProcessLookupError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _death(code: int | None, stack: str, said: list[str], culprit: Part, still: str) -> str:
    if code is None or stack:
        return f"still {still}{_place(stack, culprit)}"
    if code < 0:
        return f"it ended the process by {signal.Signals(-code).name}"
    return f"it ended the process with code {code}" + (f": {said[-1]}" if said else "")


def _place(stack: str, culprit: Part) -> str:
    """Where the newest line of the culprit's own code is."""
    frames = re.findall(r'File "(.*?)", line (\d+)', stack)
    own = [frame for frame in frames if _package(culprit) in (*Path(frame[0]).parts, Path(frame[0]).stem)]
    return f", at {own[0][0]}, line {own[0][1]}" if own else ""


def _package(part: Part) -> str:
    return part.code.file.stem if part.code else part.target.split(":")[0].split(".")[0].strip()


def _main(order: dict[str, Any]) -> None:
    """The other process."""
    with (
        open(order["hung"], "w") as hung,
        registry.including([one["file"] for one in order["parts"] if one["file"]]),
    ):
        for one in order["parts"]:
            part = next(p for p in registry.parts(one["kind"]) if p.name == one["name"] and not p.problem)
            importlib.import_module(registry.BASES[part.kind].rpartition(".")[0])  # torch takes seconds of its own
            # also where no line of Python runs any more: it ends the process
            faulthandler.dump_traceback_later(order["limit"], exit=True, file=hung)
            verdict = TASKS[order["task"]](part)
            faulthandler.cancel_dump_traceback_later()
            with open(order["report"], "a") as report:
                report.write(json.dumps({"state": verdict.state, "reason": verdict.reason}) + "\n")
    os.unlink(order["hung"])
    os._exit(0)  # a thread that a plugin left behind would keep the process


def _load(part: Part) -> Verdict:
    try:
        registry.load_part(part)
    except UserError as reason:
        return Verdict("broken", str(reason).partition(": ")[2] or str(reason))
    return Verdict("ready")


def _check(part: Part) -> Verdict:
    before = _surroundings()
    loaded = _load(part)
    if loaded.state != "ready":
        return loaded
    after = _surroundings()
    if changed := [name for name in before if before[name] != after[name]]:
        return Verdict("broken", f"importing it changes {' and '.join(changed)}, for everybody else too")
    for when, kit in _kits(part.kind).items():
        verdict = _tried(kit, part)
        if verdict.state != "ready":
            return replace(verdict, reason=when + verdict.reason)
    return Verdict("ready")


def _tried(kit: Callable[[str], None], part: Part) -> Verdict:
    try:
        kit(part.name)
    except AssertionError as reason:
        return Verdict("broken", str(reason) or f"an assertion fails{_where(reason, part)}")
    except UserError as reason:
        state = "broken" if part.kind in ("models", "callbacks") else "skipped"
        return Verdict(state, str(reason).splitlines()[0])
    except BaseException as reason:
        said = "".join(traceback.format_exception_only(type(reason), reason)).strip().splitlines()[-1]
        return Verdict("broken", f"{said}{_where(reason, part)}")
    return Verdict("ready")


TASKS: dict[str, Callable[[Part], Verdict]] = {"load": _load, "check": _check}


def _kits(kind: str) -> dict[str, Callable[[str], None]]:
    """What is tried of a part, by what is said before the reason if it fails."""
    from lightning_gen import testing

    if kind == "models":  # in both precisions that a run has on a CPU where none is asked for
        return {"": testing.check_model, "in bf16-mixed: ": partial(testing.check_model, precision="bf16-mixed")}
    kits: dict[str, Callable[[str], None]] = {
        "data": testing.check_data,
        "extractors": testing.check_extractor,
        "callbacks": testing.check_callback,
        "metrics": testing.check_metric,
    }
    return {"": kits[kind]}


def _where(reason: BaseException, part: Part) -> str:
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(reason.__traceback__)]
    own = [frame for frame in frames if _package(part) in (*Path(frame[0]).parts, Path(frame[0]).stem)]
    return f" ({own[-1][0]}, line {own[-1][1]})" if own else ""


def _surroundings() -> dict[str, Any]:
    """What belongs to the whole process, by the name that a sentence gives it."""
    import numpy as np
    import torch

    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": str(torch.get_default_device()),
        "torch's random stream": torch.get_rng_state().numpy().tobytes(),
        "NumPy's random stream": np.random.get_state(legacy=False)["state"]["key"].tobytes(),
        "whether torch keeps gradients": torch.is_grad_enabled(),
        "whether torch is deterministic": torch.are_deterministic_algorithms_enabled(),
        "the number of threads": torch.get_num_threads(),
        "the working directory": os.getcwd(),
        "who handles signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "how exceptions are shown": sys.excepthook,
    }


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
