"""Verbs that only list answer at once, because they import nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "numpy", "jsonargparse", "wandb", "rich")

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
