"""Verbs that only list answer at once, because they import nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_gen.cli import GROUPS, VERBS

HEAVY = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "numpy", "jsonargparse", "wandb")

REPORT = f"""
import atexit, sys
atexit.register(lambda: print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr))
from lightning_gen.cli import main
main(prog_name="lgen")
"""


def lgen(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", REPORT, *arguments], capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["fit", "--help"],
        ["sample", "--help"],
        ["models"],
        ["models", "--json"],
        ["data"],
        ["extractors"],
        ["watch", "--help"],
        ["report", "--help"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_by(arguments: list[str]) -> None:
    done = lgen(*arguments)
    assert (done.returncode, done.stderr) == (0, "\n")
    assert done.stdout


def test_a_mistake_in_a_name_is_answered_before_anything_heavy_is_imported() -> None:
    done = lgen("models", "prrogan")
    assert done.returncode == 2
    assert done.stderr == "Error: unknown model 'prrogan'; did you mean 'progan'? (`lgen models` lists them)\n\n"


def test_a_tilde_is_the_home_folder_also_behind_an_equals_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.html").mkdir()
    for asked in (["--out=~/x.html"], ["--out", "~/x.html"]):
        done = lgen("report", "~/nothing", *asked)
        assert done.stderr.startswith(f"Error: {tmp_path}/nothing ")


def test_so_is_one_in_the_names_of_a_run() -> None:
    done = lgen("fit", "--model", "progan", "--data", "shape")
    assert done.returncode == 2
    said, imported = done.stderr.splitlines()
    assert said.startswith("Error: unknown data source 'shape'; did you mean 'shapes'?")
    assert imported == "jsonargparse"  # which reads the settings, in a tenth of the time of torch


def test_importing_the_package_imports_nothing_heavy() -> None:
    imports = f"import lightning_gen, sys; print(*set({HEAVY!r}) & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True).stdout == "\n"


def test_the_lists_are_complete_though_nothing_was_imported() -> None:
    names = [row["name"] for row in json.loads(lgen("models", "--json").stdout)]
    assert {"progan", "dcgan"} <= set(names)
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("lgen rep", {"report"}),
        ("lgen fit --model wgan", {"wgan", "wgan-gp"}),
        ("lgen models pixelcnn", {"pixelcnn", "pixelcnn++"}),
    ],
)
def test_the_shell_completes_verbs_and_names(words: str, offered: set[str]) -> None:
    asked = {"_LGEN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    program = "from lightning_gen.cli import main; main(prog_name='lgen')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **asked}, timeout=600
    )
    assert {line.removeprefix("plain,") for line in done.stdout.split()} == offered


def test_the_help_shows_every_verb_under_what_it_is_for() -> None:
    shown = lgen("--help").stdout
    assert [title for title in GROUPS if f"{title}:" in shown] == list(GROUPS)
    assert all(f"\n  {verb} " in shown for verb in VERBS)
