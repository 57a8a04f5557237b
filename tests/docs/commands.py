"""The commands that a page of the documentation shows."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "docs/**/*.md", "benchmarks/README.md", "benchmarks/*/README.md")
    for path in ROOT.glob(pattern)
)
"""Those of plugins are tested with them: here none of them is installed."""

BLOCK = re.compile(r"^(?:```(?P<kind>\w*)[^\n]*\n(?P<fenced>.*?)^```|(?P<indented>(?:    [^\n]*\n)+))", re.M | re.S)
INLINE = re.compile(r"`(lgen [^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """Lines that a page sets apart."""

    kind: str
    """Of a fenced block, e.g. `python`; empty for indented ones."""
    text: str


def blocks(page: str) -> list[Block]:
    """All of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [Block(m["kind"] or "", m["fenced"] or re.sub("^    ", "", m["indented"] or "", flags=re.M))
             for m in BLOCK.finditer(text)]  # fmt: skip
    return [block for block in found if block.text.strip()]


def session(page: str) -> list[str]:
    """The `lgen` commands of a page's blocks, as they would be typed one after the other."""
    found = []
    for block in blocks(page):
        if block.kind in ("", "console", "bash"):
            text = block.text.replace("\\\n", " ")
            for line in text.splitlines():
                typed = re.split(r"\s+#\s|\s>\s", line.removeprefix("$ "))[0]
                parts = [re.sub(r"^(?:srun |\S*/bin/(?=lgen))", "", part.strip()) for part in typed.split("&&")]
                found += [part for part in parts if part.startswith("lgen ") and not is_usage(part)]
    return found


def shown(page: str) -> list[str]:
    """Every `lgen` command of a page, also those in its sentences and tables, and lines of usage."""
    prose = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    usage = [line for block in blocks(page) for line in block.text.splitlines() if line.startswith("lgen ")]
    return [*session(page), *(line for line in usage if is_usage(line)), *INLINE.findall(prose)]


def is_usage(command: str) -> bool:
    """Whether it stands for several: `RUN|CKPT`, `[--json]`, `RUN …`."""
    return bool(re.search(r"[A-Z]\|[A-Z]|\[--|…", command))


def words(command: str) -> list[str]:
    """As the program gets them; brackets and dots of usage left out."""
    if is_usage(command):
        command = re.sub(r"\[(?!\d)|(?<!\d)\]|…", " ", command)
    return shlex.split(command)[1:]
