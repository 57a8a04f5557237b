"""Tables, quiet, and what machines read: the same for every verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lightning_gen.cli import listing, main


def lgen(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


SOURCE = """
from pathlib import Path

from lightning_gen.data.shapes import Shapes


class Own(Shapes):
    '''Shapes of a file.

    Args:
        root: Where they are.
        cache: Where they are kept.
    '''

    def __init__(self, root: str, cache: Path = Path("kept")): ...
"""


def test_a_setting_that_must_be_given_and_a_default_of_any_type_are_listed(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    asked = ("data", "Own", "--plugin", f"{tmp_path / 'own.py'}:Own")
    rows = [" ".join(line.split()) for line in lgen(*asked).splitlines()]
    assert "--data.root (must be given) Where they are." in rows
    known = json.loads(lgen(*asked, "--json"))["settings"]
    assert known["root"] == {"type": "str", "help": "Where they are."}
    assert known["cache"]["default"] == "kept"
    missing = CliRunner().invoke(
        main, ["fit", "--model", "gan", "--data", "Own", *asked[2:], "--out", str(tmp_path / "run")]
    )
    assert (missing.exit_code, missing.output) == (2, "Error: must be given: --data.root\n")


def test_off_a_terminal_a_row_is_a_line_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    listing.table(("name", "about"), [("a", "x " * 300 + "end"), ("longer", "[red]as it is[/red]")])
    head, first, second = capsys.readouterr().out.splitlines()
    assert head == "name    about"
    assert first.startswith("a       x x")
    assert first.endswith("end")
    assert second == "longer  [red]as it is[/red]"


@pytest.mark.parametrize(
    ("verb", "columns"),
    [
        (("models",), "name distribution state"),
        (("data",), "name distribution state"),
        (("extractors",), "name distribution state"),
        (("models", "dcgan"), "setting default what"),
        (("data", "shapes"), "setting default what"),
        (("benchmark", "list"), "suite tier rows data about"),
        (("plugin", "list", "--all"), "plugin kind distribution version state reason"),
    ],
)
def test_every_listing_is_a_table_with_a_head(verb: tuple[str, ...], columns: str) -> None:
    assert columns in [" ".join(line.split()) for line in lgen(*verb).splitlines()]


@pytest.mark.parametrize(
    "verb", ["models", "data", "extractors", "models dcgan", "data shapes", "benchmark list", "plugin list --all"]
)
def test_every_listing_can_be_read_by_a_machine(verb: str) -> None:
    assert json.loads(lgen(*verb.split(), "--json"))


def test_a_quiet_run_says_nothing_and_leaves_the_same(tmp_path: Path) -> None:
    small = ["--model", "gan", "--preset", "quick", "--model.width", "4", "--data.size", "96", "--kimg", "0.128"]
    small += ["--metrics.every_kimg", "0", "--logger", "none", "--out", str(tmp_path / "run")]
    assert lgen("fit", *small, "--quiet") == ""
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
    assert "progress" in (tmp_path / "run" / "run.yaml").read_text()
