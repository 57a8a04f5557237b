import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightning_gen.data.shapes import BACKGROUNDS, CLASS_NAMES, COLOURS, SHAPES, Shapes, captions, coverage, render
from lightning_gen.errors import UserError

ROWS = np.arange(480)


@pytest.fixture(scope="module", params=["gentle", "full"])
def source(request):
    return Shapes(size=480, variation=request.param)


def test_the_contract_of_a_source(source):
    batch = source.read(ROWS[:5])
    assert batch["image"].shape == (5, *source.image_shape)
    assert batch["image"].dtype == torch.uint8
    assert batch["label"].dtype == torch.int64
    assert len(source) == 480
    assert source.num_classes == 48
    assert source.class_names[int(batch["label"][0])].split()[1] in SHAPES


def test_the_same_settings_give_the_same_pixels(source):
    again = Shapes(size=480, variation=source.variation)
    assert torch.equal(source.read(ROWS)["image"], again.read(ROWS)["image"])
    assert source.digest() == again.digest()


def test_pixels_are_those_of_version_1():
    """If this fails, the content has changed: count VERSION up, and all that was measured on `shapes` is void."""
    batch = Shapes(size=480, resolution=16, variation="full").read(ROWS)
    seen = hashlib.sha256(batch["image"].numpy().tobytes() + batch["label"].numpy().tobytes()).hexdigest()
    assert seen[:16] == "e35c6f13f695c02e"


def test_every_setting_changes_the_digest():
    settings = [{}, {"resolution": 64}, {"channels": 1}, {"size": 9}, {"variation": "full"}, {"split": "test"}]
    assert len({Shapes(**setting).digest() for setting in settings}) == len(settings)


def test_a_row_alone_is_the_row_in_a_batch(source):
    whole = source.read(ROWS)
    for row in (0, 47, 48, 311):
        alone = Shapes(size=10**9, variation=source.variation).read(np.array([row]))  # too many to keep: rendered alone
        assert torch.equal(alone["image"][0], whole["image"][row])
        assert alone["label"][0] == whole["label"][row]
    some = np.array([7, 7, 3])
    assert torch.equal(source.read(some)["image"], whole["image"][some])


def test_more_rows_leave_the_first_ones_alone():
    few, many = Shapes(size=10), Shapes(size=500)
    assert torch.equal(few.read(ROWS[:10])["image"], many.read(ROWS[:10])["image"])


def test_splits_share_no_image(source):
    train = {image.numpy().tobytes() for image in source.read(ROWS)["image"]}
    test = {
        image.numpy().tobytes()
        for image in Shapes(size=480, variation=source.variation, split="test").read(ROWS)["image"]
    }
    assert len(train) == len(test) == 480
    assert not train & test


def test_every_label_occurs_equally_often(source):
    counts = source.class_counts()
    assert torch.equal(counts, torch.full((48,), 10))
    assert torch.equal(counts, torch.bincount(source.read(ROWS)["label"], minlength=48))
    assert set(Shapes(size=100).class_counts().tolist()) == {2, 3}
    assert sorted(Shapes(size=48, split="test").read(ROWS[:48])["label"].tolist()) == list(range(48))


def test_factors_fill_their_ranges_and_keep_shapes_inside():
    gentle, full = (Shapes(variation=v).factors(np.arange(5000)) for v in ("gentle", "full"))
    assert 0.5 <= gentle["size"].min() < 0.51
    assert 0.69 < gentle["size"].max() <= 0.7
    assert np.abs(gentle["x"]).max() <= 0.09
    assert np.abs(gentle["rotation"]).max() <= np.radians(12)
    assert full["size"].min() < 0.26
    assert np.abs(full["y"]).max() > 0.6
    assert np.abs(full["rotation"]).max() > 3.1
    assert np.bincount(full["background"]).min() > 1100
    for factors in (gentle, full):
        assert abs(np.corrcoef(factors["size"], factors["rotation"])[0, 1]) < 0.05
        assert abs(np.corrcoef(factors["x"], factors["y"])[0, 1]) < 0.05
        edge = render(factors, 32)[:, :, 0]  # the first line of pixels: ground, but for the tip of a shape
        ground = torch.tensor(list(BACKGROUNDS.values()), dtype=torch.uint8)[factors["background"]]
        assert (edge == ground[:, :, None]).float().mean() > 0.98


def test_edges_are_anti_aliased():
    one = np.ones(1)
    for shape in range(len(SHAPES)):
        covered = coverage(shape, 0.6 * one, 0.03 * one, 0 * one, 0.1 * one)
        between = (covered > 0.05) & (covered < 0.95)
        assert 20 < between.sum() < 200
        assert (covered == 1).sum() > 30
        assert (covered == 0).sum() > 400


@pytest.mark.parametrize("variation", ["gentle", "full"])
def test_resolutions_show_the_same_picture(variation):
    small, large = (Shapes(resolution=r, variation=variation).read(ROWS[:96])["image"].float() for r in (32, 64))
    difference = (F.avg_pool2d(large, 2) - small).abs()
    assert difference.mean() < 0.6  # grey levels of 255
    assert difference.amax(dim=(1, 2, 3)).mean() < 30
    assert Shapes(resolution=8).read(ROWS[:2])["image"].shape == (2, 3, 8, 8)
    assert Shapes(resolution=256, size=10).read(ROWS[:2])["image"].shape == (2, 3, 256, 256)


def test_a_picture_shows_its_factors():
    source = Shapes()
    batch, factors = source.read(ROWS), source.factors(ROWS)
    assert np.array_equal(batch["label"].numpy(), factors["shape"] * len(COLOURS) + factors["colour"])
    ground = np.array(list(BACKGROUNDS.values()))[factors["background"]]
    assert np.array_equal(batch["image"][:, :, 0, 0].numpy(), ground)
    filled = factors["shape"] != SHAPES.index("ring")
    ink = np.array(list(COLOURS.values()))[factors["colour"]]
    assert np.array_equal(batch["image"][:, :, 16, 16].numpy()[filled], ink[filled])


def test_captions_name_the_factors(source):
    factors = source.factors(ROWS)
    middle = 0.6 if source.variation == "gentle" else 0.475
    told = source.captions(ROWS)
    assert len(set(told)) > 200
    for row, caption in enumerate(told):
        article, size, colour, shape, on, background = caption.split()
        assert (article, on) == ("a", "on")
        assert (size == "small") == (factors["size"][row] < middle)
        assert f"{colour} {shape}" == CLASS_NAMES[factors["shape"][row] * 8 + factors["colour"][row]]
        assert background == list(BACKGROUNDS)[factors["background"][row]]
    assert told == captions(factors, source.variation)


def test_grey_is_the_luma_of_the_colours():
    grey, colour = (Shapes(channels=channels).read(ROWS[:50])["image"].float() for channels in (1, 3))
    assert grey.shape == (50, 1, 32, 32)
    luma = (colour * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    assert (grey - luma).abs().max() <= 1.01  # both are rounded


def test_an_outline_lies_within_its_filled_shape():
    factors = Shapes().factors(ROWS[:48])
    filled, outline = (render(factors, 128, style=style) for style in ("filled", "outline"))
    ground = filled[:, :, :1, :1]
    inked, lined = (filled != ground).any(1), (outline != ground).any(1)
    assert not (lined & ~inked).any()
    share = lined.float().mean((1, 2)) / inked.float().mean((1, 2))
    assert share.min() > 0.1
    assert share.max() < 0.75


def test_a_hatched_shape_is_every_other_bar_of_the_filled_one():
    factors = Shapes().factors(ROWS[:48])
    filled, hatched = (render(factors, 64, style=style) for style in ("filled", "hatched"))
    bars = torch.arange(64) // 4 % 2 == 0
    assert torch.equal(hatched[:, :, bars], filled[:, :, bars])
    assert torch.equal(hatched[:, :, ~bars], filled[:, :, :1, :1].expand(-1, -1, 32, 64))


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("resolution", 48, "--data.resolution 48: "),
        ("resolution", 4, "--data.resolution 4: "),
        ("resolution", 512, "--data.resolution 512: "),
        ("channels", 2, "--data.channels 2: "),
        ("size", 0, "--data.size 0: "),
        ("variation", "gentel", "--data.variation gentel: gentle or full; did you mean 'gentle'?"),
        ("split", "val", "--data.split val: train or test"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(setting, value, says):
    with pytest.raises(UserError) as caught:
        Shapes(**{setting: value})
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_only_what_the_decoder_can_judge_is_decodable():
    assert Shapes().decodable
    assert Shapes(resolution=128, variation="full").decodable
    assert not Shapes(channels=1).decodable
    assert not Shapes(resolution=16).decodable
