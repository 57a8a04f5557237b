"""Mixtures of Gaussians: what is drawn, what is counted, and that a run on points is scored and shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from lightning_gen import images, registry
from lightning_gen.cli import main
from lightning_gen.data.points import Points, mixture, modes_covered
from lightning_gen.errors import UserError
from lightning_gen.metrics.evaluation import Panel
from lightning_gen.metrics.extractors import Tiny

ROWS = np.arange(500)


@pytest.mark.parametrize(("layout", "modes"), [("ring-8", 8), ("grid-25", 25)])
def test_points_lie_around_the_centre_that_their_label_names(layout, modes):
    source = Points(layout=layout)
    batch = source.read(np.arange(20_000))
    centres, deviation = mixture(layout)
    assert centres.shape == (modes, 2)
    assert batch["image"].shape == (20_000, *source.image_shape)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].abs().max() < 1
    away = (batch["image"].flatten(1) - centres[batch["label"]]) / deviation
    assert away.mean(0).abs().max() < 0.03
    assert (away.std(0) - 1).abs().max() < 0.03
    assert abs(torch.corrcoef(away.T)[0, 1]) < 0.03
    within = (away.norm(dim=1) < 3).float().mean().item()
    assert abs(within - (1 - np.exp(-4.5))) < 0.003  # Rayleigh


def test_a_point_is_a_function_of_its_row():
    whole = Points(size=500).read(ROWS)
    some = np.array([7, 7, 301])
    assert torch.equal(Points(size=10**6).read(some)["image"], whole["image"][some])
    assert torch.equal(Points(size=500).read(ROWS)["image"], whole["image"])


def test_splits_and_layouts_share_no_point():
    settings = ({}, {"split": "test"}, {"layout": "ring-8"})
    drawn = [{tuple(p) for p in Points(**s).read(ROWS)["image"].flatten(1).tolist()} for s in settings]
    assert len(set.union(*drawn)) == 3 * len(ROWS)
    assert len({Points(**s).digest() for s in (*settings, {"size": 9})}) == 4


def test_every_gaussian_occurs_equally_often():
    source = Points(size=510)
    counts = source.class_counts()
    assert counts.sum() == 510
    assert set(counts.tolist()) == {20, 21}
    assert torch.equal(counts, torch.bincount(source.read(np.arange(510))["label"]))


@pytest.mark.parametrize("layout", ["ring-8", "grid-25"])
def test_coverage_of_constructed_sets(layout):
    centres, deviation = mixture(layout)
    every = len(centres)
    assert modes_covered(centres, layout) == {"modes_covered": every, "high_quality": 1.0}
    assert modes_covered(centres[:3], layout) == {"modes_covered": 3, "high_quality": 1.0}
    just_in, just_out = (centres + torch.tensor([0.0, k * deviation]) for k in (2.99, 3.01))
    assert modes_covered(just_in, layout) == {"modes_covered": every, "high_quality": 1.0}
    assert modes_covered(just_out, layout) == {"modes_covered": 0, "high_quality": 0.0}
    half = torch.cat([centres[:2], just_out[2:4]])
    assert modes_covered(half, layout) == {"modes_covered": 2, "high_quality": 0.5}
    collapsed = centres[:1].expand(2500, 2)
    late = torch.cat([collapsed, centres])  # what comes after the first 2,500 does not count
    assert modes_covered(late, layout) == {"modes_covered": 1, "high_quality": 1.0}


def test_real_points_cover_every_mode():
    found = modes_covered(Points().read(np.arange(2500))["image"], "grid-25")
    assert found["modes_covered"] == 25
    assert found["high_quality"] > 0.98


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("layout", "ring-9", "--data.layout ring-9: ring-8 or grid-25; did you mean 'ring-8'?"),
        ("size", 0, "--data.size 0: "),
        ("split", "val", "--data.split val: train or test"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(setting, value, says):
    with pytest.raises(UserError) as caught:
        Points(**{setting: value})
    assert str(caught.value).startswith(says)


def test_no_extractor_sees_points_and_only_points_have_their_metric():
    panel = Panel.of(Points(), Tiny(), ("fid", "is", "kid", "prdc", "modes", "points"))
    assert list(panel.scores) == ["points"]
    passport = panel.passport(2000, "nearest")
    assert (passport.extractor, passport.resize, passport.rounding) == ("none", "none", "none")
    shapes = registry.load("shapes", "data")()
    assert list(Panel.of(shapes, Tiny(), ("modes", "points")).left_out) == ["points"]


def test_a_scatter_shows_each_point_where_it_is():
    picture = images.scatter(torch.tensor([[-1.0, 1.0], [0.0, 0.0], [5.0, -0.5]]), side=100)
    assert picture.shape == (3, 100, 100)
    assert picture.dtype == torch.uint8
    dark = (picture[0] < 255).nonzero().tolist()
    assert [1, 1] in dark  # left, top
    assert any(abs(y - 50) <= 1 and abs(x - 50) <= 1 for y, x in dark)
    assert any(x == 99 for _, x in dark)
    assert len(dark) == 27


def test_a_run_on_points_is_scored_shown_and_sampled(tmp_path: Path):
    def lgen(*words: str) -> str:
        result = CliRunner().invoke(main, list(words), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    def size(path: Path) -> tuple[int, int]:
        with Image.open(path) as picture:
            return picture.size

    run = tmp_path / "run"
    settings = ("--kimg", "4", "--data.batch_size", "100", "--metrics.samples", "500", "--trainer.accelerator", "cpu")
    said = lgen(
        "fit",
        "--model",
        "gan",
        "--preset",
        "points",
        "--data",
        "points",
        "--out",
        str(run),
        "--logger",
        "none",
        *settings,
    )
    assert "modes_covered" in said
    assert "left out" not in said
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("high_quality" in record for record in records)
    assert size(sorted((run / "samples").glob("*.png"))[-1]) == (512, 512)
    lgen("sample", str(run), "--n", "100", "--grid", str(tmp_path / "grid.png"))
    assert size(tmp_path / "grid.png") == (512, 512)
    refused = CliRunner().invoke(main, ["sample", str(run), "--out", str(tmp_path / "single")])
    assert refused.exit_code == 2
    assert "--grid" in refused.output
    scores = json.loads(lgen("evaluate", str(run), "--n", "500", "--json", "--device", "cpu"))["scores"]
    assert set(scores) == {"modes_covered", "high_quality"}
    other = CliRunner().invoke(main, ["evaluate", str(run), "--reference", "shapes", "--n", "500", "--device", "cpu"])
    assert other.exit_code == 2
    assert "points compare with points" in other.output
