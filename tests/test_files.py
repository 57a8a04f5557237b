"""Files, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_gen import files


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "図" * 83 + ".png", "one.png"])
def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path, name: str) -> None:
    files.write(tmp_path / name, "whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def half_of(path: Path) -> None:
    """Write half a file, and fail."""
    with files.replacing(path) as unfinished:
        assert unfinished.suffix == path.suffix  # what writes by the ending writes the right kind
        unfinished.write_text("half")
        raise InterruptedError


def test_a_file_that_cannot_be_finished_stays_what_it_was(tmp_path: Path) -> None:
    files.write(tmp_path / "one.txt", "before")
    with pytest.raises(InterruptedError):
        half_of(tmp_path / "one.txt")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("name", ["", "folder", "x" * 300])
def test_what_cannot_be_written_is_called_as_the_user_called_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(OSError, match=r"Is a directory|too long") as raised:
        files.write(Path(name), "whole")
    assert raised.value.filename == str(Path(name))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
