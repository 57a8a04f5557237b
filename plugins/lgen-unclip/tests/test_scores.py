"""Scores count what they say, and the command writes what it should or says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from lgen_unclip import cli, scores
from lgen_unclip.captions import Captions
from lgen_unclip.unclip import UnCLIP

from lightning_gen import images
from lightning_gen.cli import main as lgen
from lightning_gen.data.shapes import CLASS_NAMES


def test_there_are_384_sentences_each_of_its_label() -> None:
    asked = scores.every_caption()
    assert len(set(asked.captions)) == 384
    assert all(CLASS_NAMES[label] in caption for caption, label in zip(*asked, strict=True))
    assert scores.of_pairs(asked, ["red circle", "blue star"]).sum() == 16
    assert set(scores.every_caption(50).captions) < set(asked.captions)


class Knows:
    """A CLIP that reads the answer off a picture of `shapes`, and is wrong about one in ten."""

    def __init__(self, source: Captions):
        read = source.read(np.arange(len(source)))
        self.told = {
            image.numpy().tobytes(): caption for image, caption in zip(read["image"], read["caption"], strict=True)
        }
        self.sentences: list[str] = []

    def embed_captions(self, sentences: list[str]) -> torch.Tensor:
        self.sentences = sentences
        return torch.eye(len(sentences))

    def embed_images(self, pictures: torch.Tensor) -> torch.Tensor:
        rows = [self.sentences.index(self.told[one.numpy().tobytes()]) for one in images.to_uint8(pictures)]
        wrong = [(row + 1) % len(self.sentences) if i % 10 == 0 else row for i, row in enumerate(rows)]
        return torch.eye(len(self.sentences))[wrong]


def test_retrieval_is_the_share_of_pictures_whose_sentence_is_nearest() -> None:
    source = Captions(size=200, split="test")
    found = scores.retrieval(Knows(source), source, 100)  # type: ignore[arg-type]
    assert found == {"retrieval": 0.9, "sentences": 384, "pictures": 100}


class Draws:
    """Real pictures of what is asked for; the second half is asked for by the wrong captions."""

    def __init__(self, source: Captions):
        self.pictures = source.read(np.arange(len(source)))["image"]

    def sample(self, n: int, *, start: int, **rest: object) -> torch.Tensor:
        return images.from_uint8(self.pictures[start : start + n])


def test_a_picture_is_right_where_the_decoder_reads_what_was_asked() -> None:
    source = Captions(size=96)
    read = source.read(np.arange(96))
    labels = read["label"].numpy().copy()
    labels[48:] = (labels[48:] + 8) % 48  # the next shape, of the same colour
    right = scores.drawn(Draws(source), scores.Asked(read["caption"], labels), seed=0, guidance=1.0)  # type: ignore[arg-type]
    first = np.arange(96) < 48
    assert right.of(first)["both"] > 0.95
    assert right.of(~first)["shape"] < 0.05
    assert right.of(~first)["colour"] > 0.95


SMALL = [
    word
    for key, value in UnCLIP.checked.items()
    if key not in ("image_shape", "vocabulary")
    for word in (f"--model.{key}", str(value))
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("unclip") / "run")
    few = ("--data.size", "60", "--data.batch_size", "20", "--kimg", "0.04", "--metrics.every_kimg", "0")
    off = ("--samples.every_kimg", "0", "--logger", "none", "--data.leave_out", "[red circle]")
    done = CliRunner().invoke(lgen, ["fit", "--model", "unclip", *SMALL, *few, *off, "--out", out])
    assert done.exit_code == 0, done.output + repr(done.exception)
    return out


def unclip(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments, prog_name="lgen-unclip")


def test_a_run_draws_a_caption_and_refuses_a_word_that_it_never_read(run: str, tmp_path: Path) -> None:
    grid = str(tmp_path / "grid.png")
    wanted = ["sample", run, "--n", "2", "--guidance", "1.5", "--grid", grid, "--caption"]
    assert CliRunner().invoke(lgen, [*wanted, "A large red square, on navy!"]).exit_code == 0
    assert Path(grid).exists()
    done = CliRunner().invoke(lgen, [*wanted, "a large red sqare"])
    assert done.exit_code == 2
    assert "not learnt the word 'sqare'; did you mean 'square'?" in done.output


def test_score_counts_what_was_left_out_apart_and_plots(run: str, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    done = unclip("score", run, "--guidance", "1,2", "--n", "100", "--plot", str(plot), "--json")
    assert done.exit_code == 0, done.output + repr(done.exception)
    found = json.loads(done.stdout.splitlines()[0])
    assert set(found["guidance"]) == {"1.0", "2.0"}
    assert set(found["guidance"]["1.0"]) == {"seen", "unseen"}
    assert plot.stat().st_size > 1000


def test_variations_and_walks_are_pictures(run: str, tmp_path: Path) -> None:
    picture = tmp_path / "one.png"
    images.save_png(Captions(size=1).read(np.arange(1))["image"][0], picture)
    grid = tmp_path / "grid.png"
    for arguments in (("variations", run, str(picture), "--n", "2"), ("between", run, "red", "blue", "--steps", "3")):
        done = unclip(*arguments, "--grid", str(grid))
        assert done.exit_code == 0, done.output + repr(done.exception)
        grid.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "nowhere"), "there is no run or checkpoint nowhere"),
        (("score", "RUN", "--guidance", "1;2"), "numbers with commas in between"),
        (("variations", "RUN", "nothing.png", "--grid", "g.png"), "there is no image nothing.png"),
    ],
)
def test_mistakes_are_one_line(run: str, arguments: tuple[str, ...], message: str) -> None:
    done = unclip(*(run if word == "RUN" else word for word in arguments))
    assert done.exit_code == 2
    assert message in done.output
