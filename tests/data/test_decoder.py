import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_gen.data import decoder
from lightning_gen.data.shapes import COLOURS, SHAPES, Shapes

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "shapes" / "thresholds.py"
ROWS = np.arange(480)


@pytest.fixture(scope="module")
def thresholds():
    spec = importlib.util.spec_from_file_location("thresholds", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["gentle", "full"])
def source(request):
    return Shapes(size=480, split="test", variation=request.param)


def test_real_images_decode_to_their_factors(source):
    truth, decoded = source.factors(ROWS), decoder.decode(source.read(ROWS)["image"])
    assert np.mean(decoded.mode == source.read(ROWS)["label"].numpy()) > 0.995
    assert np.array_equal(decoded.mode, decoded.shape * len(COLOURS) + decoded.colour)
    assert np.array_equal(decoded.factors["background"], truth["background"])
    for factor in ("x", "y", "size"):
        assert np.abs(decoded.factors[factor] - truth[factor]).max() < 0.02
    folds = np.array([0, 4, 3, 5, 4, 0])[truth["shape"]]
    turned = np.abs(np.exp(1j * folds * (decoded.factors["rotation"] - truth["rotation"])) - 1)
    assert turned.max() < 0.1  # up to the turns that change nothing
    assert decoded.on_manifold.all()
    assert decoded.residual.max() < 0.01


def test_the_limits_keep_their_rates(source, thresholds):
    """The page in benchmarks/shapes has the rates on twenty times as many images; here are 80 a shape."""
    passed = thresholds.rates(source.read(ROWS)["image"], source.factors(ROWS)["shape"])
    gentle = source.variation == "gentle"
    assert passed["real"].min() > 0.995
    assert passed["small faults"].min() >= (0.985 if gentle else 0.96)
    for wrong in ("blurred", "average of two", "blob"):
        assert np.nanmax(passed[wrong]) <= (0.05 if gentle else 0.08), wrong
        assert passed[wrong][-1] <= 0.05


def test_small_faults_leave_the_label_readable(source, thresholds):
    batch = source.read(ROWS)
    decoded = decoder.decode(thresholds.small_faults(batch["image"], seed=5))
    assert np.mean(decoded.mode == batch["label"].numpy()) > 0.985


def test_what_is_no_picture_of_the_set_is_off_the_manifold():
    n = 24
    generator = torch.Generator().manual_seed(0)
    images = Shapes(split="test").read(np.arange(n))["image"].float()
    checkers = 40.0 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2 - 1)
    wrong = {
        "plain": torch.full((n, 3, 32, 32), 17.0),
        "noise": torch.rand(n, 3, 32, 32, generator=generator) * 255,
        "checkerboard": images + checkers,
        "half": torch.cat([images[..., :16], images[..., :1].expand(-1, -1, -1, 16)], dim=-1),
        "two of them": torch.cat([images, images], dim=-1)[..., ::2],
        "another ink": images.flip(1),
    }
    for name, strange in wrong.items():
        decoded = decoder.decode(strange.round().clamp(0, 255).to(torch.uint8))
        assert np.isfinite(decoded.residual).all(), name
        assert decoded.on_manifold.mean() < 0.1, name


@pytest.mark.parametrize("resolution", [64, 128])
def test_larger_images_are_judged_at_32(resolution):
    source = Shapes(resolution=resolution, split="test", size=96)
    batch = source.read(np.arange(96))
    decoded = decoder.decode(batch["image"])
    assert np.array_equal(decoded.mode, batch["label"].numpy())
    assert decoded.on_manifold.all()


def test_small_images_count_as_blurred():
    assert decoder.decode(Shapes(resolution=8).read(ROWS)["image"]).on_manifold.mean() < 0.1


def test_an_image_alone_decodes_as_in_a_batch():
    images = Shapes().read(np.arange(300))["image"]
    whole, alone = decoder.decode(images), decoder.decode(images[270:271])
    assert alone.mode[0] == whole.mode[270]
    assert alone.residual[0] == pytest.approx(whole.residual[270], abs=1e-4)


def test_a_mode_counts_from_two_images_on_the_manifold():
    rows = np.flatnonzero(Shapes(size=480).read(ROWS)["label"].numpy() < 5)
    images = Shapes().read(rows)["image"]
    grey = torch.full((50, 3, 32, 32), 128, dtype=torch.uint8)
    assert decoder.score(torch.cat([images, grey])) == {"mode_coverage": 5, "on_manifold": 0.5}
    labels = Shapes().read(rows)["label"]
    once = torch.cat([images[labels > 0], images[labels == 0][:1]])
    assert decoder.score(once)["mode_coverage"] == 4


def test_two_thousand_real_images_show_every_mode():
    assert decoder.score(Shapes(split="test").read(np.arange(2000))["image"]) == {
        "mode_coverage": 48,
        "on_manifold": 1.0,
    }


def test_the_share_that_shows_what_was_asked_for():
    images, labels = (Shapes(size=480).read(np.arange(480))[key] for key in ("image", "label"))
    found = decoder.score(images, labels)
    assert found["label_accuracy"] == found["shape_accuracy"] == found["colour_accuracy"] == 1
    found = decoder.score(images, (labels + 8) % 48)  # the next shape, in the same colour
    assert (found["label_accuracy"], found["shape_accuracy"], found["colour_accuracy"]) == (0, 0, 1)
    assert "label_accuracy" not in decoder.score(images)


def test_only_the_first_two_thousand_are_scored(monkeypatch):
    assert decoder.SAMPLE == 2000
    monkeypatch.setattr(decoder, "SAMPLE", 20)
    images = Shapes().read(np.arange(21))["image"].clone()
    images[20] = 0
    assert decoder.score(images)["on_manifold"] == 1.0


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, 32, 32, dtype=torch.uint8)])
def test_other_than_colour_bytes_are_refused(images):
    with pytest.raises(ValueError, match="uint8 images"):
        decoder.decode(images)


def test_every_shape_has_a_limit():
    assert tuple(decoder.LIMITS) == SHAPES
