"""`lgen extractors NAME` says what the extractor is, also when it has no weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from lightning_gen.cli import main


def lgen(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments, prog_name="lgen")
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_extractor_with_weights_is_ready() -> None:
    about = json.loads(lgen("extractors", "tiny", "--json"))
    assert (about["features"], about["classes"], about["resizes"]) == (128, 10, ["antialiased-bicubic"])
    assert (about["state"], len(about["weights"])) == ("ready", 12)


def test_one_without_is_described_and_says_where_they_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("LGEN_CLIP_WEIGHTS", raising=False)
    said = dict(line.split(maxsplit=1) for line in lgen("extractors", "clip-vit-b-32").splitlines())
    assert (said["features"], said["classes"], said["resizes"]) == ("512", "none", "tf1-bilinear, clean")
    assert "cannot be downloaded (no network)" in said["state"]
    assert "LGEN_CLIP_WEIGHTS" in lgen("extractors", "clip-vit-b-32")


def test_one_of_a_file_is_described_and_one_that_does_not_say_what_it_gives_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    head = "from lightning_gen.metrics.extractors import Extractor, Tiny\n"
    file.write_text(f"{head}class Own(Tiny):\n    name = 'Own'\nclass Bare(Extractor):\n    name = 'Bare'\n")
    assert json.loads(lgen("extractors", "Own", "--plugin", f"{file}:Own", "--json"))["features"] == 128
    refused = CliRunner().invoke(main, ["extractors", "Bare", "--plugin", f"{file}:Bare"])
    assert refused.exit_code == 2
    assert "cannot be described: AttributeError: type object 'Bare' has no attribute 'feature_dim'" in refused.stderr


def test_all_are_listed() -> None:
    listed = {line.split()[0] for line in lgen("extractors").splitlines()}
    assert {"clip-vit-b-32", "dinov2-vit-b-14", "inception-v3-compat", "tiny", "vgg16"} <= listed
