"""One file holds the whole page: nothing is loaded from elsewhere, everything is said in words too."""

from __future__ import annotations

import base64
import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from result_rows import OFFICIAL, TINY, evaluation, failed, row

from lightning_gen.benchmark.page import page, series

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}


class Reader(HTMLParser):
    """Collects elements and checks that they close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    (folder / "cpu").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "cpu" / "dcgan-0.png")
    return folder


@pytest.fixture
def text(results: Path) -> str:
    official = evaluation(20.0, passport=OFFICIAL)
    rows = [row("dcgan", 0, evaluations=(evaluation(1.8), official)), row("dcgan", 1, 1.9)]
    return page([*rows, failed("progan", 0, "diverged")], results)


def test_it_is_html_whose_elements_close(text):
    found = Reader(text)
    assert text.startswith("<!doctype html>")
    assert len(found.all("table")) > 2
    assert all(attributes.get("scope") == "col" for attributes in found.all("th"))


def test_nothing_is_loaded_from_elsewhere(text):
    for tag, attributes in Reader(text).elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = attributes.get(name) or ""
            assert value.startswith(("#", "data:image/png;base64,")) or not value, (tag, name, value[:60])
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_pictures_are_inside_and_described(text, results):
    (image,) = Reader(text).all("img")
    kind, _, data = str(image["src"]).partition("base64,")
    assert kind == "data:image/png;"
    assert base64.b64decode(data) == (results / "cpu" / "dcgan-0.png").read_bytes()
    assert image["alt"] == "Grid of samples of dcgan, seed 0"


def test_curves_are_vector_graphics_in_the_colours_of_the_page_and_described(text):
    found = Reader(text)
    assert len(found.all("svg")) == 1
    (described,) = [attributes for attributes in found.all("div") if attributes.get("role") == "img"]
    assert "dcgan from 10.8 to 1.85" in str(described["aria-label"])
    assert "var(--line-0)" in text
    assert "currentColor" in text
    assert "#c0de" not in text


def test_it_says_what_the_markdown_says(text):
    said = Reader(text).text
    for words in (TINY.digest(), OFFICIAL.digest(), "progan, seed 0: diverged", "n=2", "SNGAN (published: mimicry)"):
        assert words in said
    assert "resize friendly, ours tf1-bilinear" in said


def test_names_from_a_file_are_text_and_not_markup(results):
    nasty = '<script>alert("1")</script>'
    curve = ({"images_seen": 0, "fid/$x_<b>": 3.0}, {"images_seen": 1000, "fid/$x_<b>": 2.0})
    text = page([row(nasty, curve=curve, machine=nasty), failed(nasty, 1, nasty)], results)
    assert nasty not in text
    assert len(Reader(text).all("script")) == 1
    assert not Reader(text).all("b")


def test_a_picture_outside_the_results_or_of_another_kind_is_not_taken(results):
    (results.parent / "secret.png").write_bytes((results / "cpu" / "dcgan-0.png").read_bytes())
    (results / "notes.png").write_text("no picture")
    for grid in ("../secret.png", str(results.parent / "secret.png"), "notes.png", "missing.png"):
        text = page([row(grid=grid)], results)
        assert not Reader(text).all("img")
        assert "The picture is missing" in text


def test_a_page_of_no_rows_is_a_page(results):
    assert "No row has a score yet" in Reader(page([], results)).text


def test_one_page_is_the_same_bytes_every_time(results):
    rows = [row("dcgan", 0), row("progan", 0)]
    assert page(rows, results) == page(rows[::-1], results)


def test_a_curve_is_the_mean_over_seeds_with_its_lowest_and_highest():
    rows = [row("dcgan", seed, fid) for seed, fid in enumerate((1.0, 2.0))]
    (line,) = series(rows, "fid/tiny")
    assert line.seeds == 2
    assert line.points == ((0.0, 10.8, 10.3, 11.3), (400.0, 1.5, 1.0, 2.0))


def test_a_failed_run_is_a_curve_of_its_own():
    stopped = dataclasses.replace(failed("dcgan", 1, "diverged"), curve=({"images_seen": 0, "fid/tiny": 9.0},))
    whole, part = series([row("dcgan", 0), stopped], "fid/tiny")
    assert (whole.name, whole.seeds, len(whole.points)) == ("dcgan", 1, 2)
    assert (part.name, part.failed, len(part.points)) == ("dcgan, seed 1, failed", True, 1)


def test_seeds_that_were_never_measured_at_one_place_are_curves_of_their_own():
    curves = [({"images_seen": at, "fid/tiny": 3.0},) for at in (1000, 2000)]
    lines = series([row(seed=seed, curve=curve) for seed, curve in enumerate(curves)], "fid/tiny")
    assert [line.name for line in lines] == ["dcgan, seed 0", "dcgan, seed 1"]


def test_a_score_without_a_number_is_no_point_of_the_curve():
    curve = ({"images_seen": 0, "fid/tiny": 9.0}, {"images_seen": 1000, "fid/tiny": None})
    (line,) = series([row(curve=curve)], "fid/tiny")
    assert len(line.points) == 1


def test_a_leaderboard_needs_no_torch():
    wanted = ("results", "leaderboard", "compare", "page")
    imports = "; ".join(f"import lightning_gen.benchmark.{name}" for name in wanted)
    heavy = "print([name for name in ('torch', 'pytorch_lightning', 'matplotlib', 'numpy') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", f"import sys; {imports}; {heavy}"], capture_output=True, check=True)
    assert said.stdout.decode().strip() == "[]"
