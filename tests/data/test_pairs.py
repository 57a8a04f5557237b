"""Sources of translations: pairs from files, two sets without pairs, and pairs made of any pictures."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen import registry
from lightning_gen.data import made_pairs, shapes
from lightning_gen.data.pairs import Paired, Unpaired
from lightning_gen.errors import UserError
from lightning_gen.testing import check_data

MADE = ("colorize", "denoise", "edges", "inpaint", "super-resolution")
ROWS = np.arange(12)


def paint(path: Path, level: int, size: tuple[int, int] = (24, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)


@pytest.mark.parametrize("name", ["paired", "unpaired", *MADE])
def test_each_runs_without_files_and_says_its_shapes(name: str) -> None:
    source = registry.load(name, "data")(resolution=32)
    batch = source.read(ROWS)
    first, second = source.views
    assert batch[first].shape == (12, *source.input_shape)
    assert batch[second].shape == (12, *source.image_shape)
    assert batch[first].dtype == batch[second].dtype == torch.uint8
    assert torch.equal(batch["image"], batch[second])
    again = source.read(ROWS[3:5])
    assert all(torch.equal(again[view], batch[view][3:5]) for view in source.views), "a row is a function of its number"


@pytest.mark.parametrize("name", ["paired", "unpaired", *MADE])
def test_training_sees_the_views_alone_and_the_same_for_the_same_chance(name: str) -> None:
    source = registry.load(name, "data")(resolution=32, flip=True)
    chance = np.linspace(0, 0.99, 12)
    seen, again = (source.augment(source.read(ROWS), chance) for _ in range(2))
    assert set(seen) == set(source.views)
    assert all(torch.equal(seen[view], again[view]) for view in source.views)
    assert all(seen[view].is_contiguous() for view in source.views)


def test_pairs_of_shapes_show_the_same_shape_as_outline_and_filled() -> None:
    there, back = Paired().read(ROWS), Paired(direction="ba").read(ROWS)
    factors = shapes.draw_factors(ROWS)
    assert torch.equal(there["source"], shapes.render(factors, style="outline"))
    assert torch.equal(there["target"], shapes.render(factors))
    assert torch.equal(there["source"], back["target"])
    assert torch.equal(there["target"], back["source"])
    assert Paired().digest() != Paired(direction="ba").digest()


def test_the_pictures_of_a_pair_may_have_other_channels() -> None:
    batch = Paired(source_channels=1).read(ROWS)
    assert (batch["source"].shape[1], batch["target"].shape[1]) == (1, 3)


def test_two_folders_pair_by_name_whatever_the_suffix(tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / "photo" / f"{i}.png", 10 * i)
        paint(tmp_path / "map" / f"{i}.bmp", 100 + 10 * i)
    source = Paired(str(tmp_path / "photo"), str(tmp_path / "map"), resolution=16)
    batch = source.read(np.arange(3))
    assert batch["source"][:, 0, 0, 0].tolist() == [0, 10, 20]
    assert batch["target"][:, 0, 0, 0].tolist() == [100, 110, 120]


def test_a_name_without_counterpart_is_named(tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / "a" / f"{i}.png", 10)
        paint(tmp_path / "b" / f"{i + 1}.png", 10)
    with pytest.raises(UserError, match=r"root_b \S+ holds no counterpart of 0\.png: pairs have equal names"):
        Paired(str(tmp_path / "a"), str(tmp_path / "b"))


def test_each_picture_meets_its_namesake_whatever_the_suffixes_do_to_the_order(tmp_path: Path) -> None:
    for level, name in ((1, "scan"), (2, "scan.left")):
        paint(tmp_path / "a" / f"{name}.png", level)
        paint(tmp_path / "b" / f"{name}.bmp", 100 + level)
    source = Paired(str(tmp_path / "a"), str(tmp_path / "b"), resolution=16)
    batch = source.read(np.arange(2))
    assert torch.equal(batch["source"] + 100, batch["target"])
    assert torch.equal(source.read(np.array([1, 0]))["target"], batch["target"].flip(0))


def test_the_same_pictures_paired_otherwise_are_another_set(tmp_path: Path) -> None:
    """With these suffixes the rows of both B are the same, and only their names say who belongs to whom."""
    for level, name, other in ((1, "scan.left", "scan"), (2, "scan", "scan.left")):
        for path in (f"a/{name}.png", f"one/{name}.png", f"two/{other}.bmp"):
            paint(tmp_path / path, level)
    one, two = (Paired(str(tmp_path / "a"), str(tmp_path / b), resolution=16) for b in ("one", "two"))
    assert one.read(np.arange(2))["target"].flatten(1).amax(1).tolist() == [1, 2]
    assert two.read(np.arange(2))["target"].flatten(1).amax(1).tolist() == [2, 1]
    assert one.digest() != two.digest()


def test_pairs_in_folders_belong_together_by_folder_and_name(tmp_path: Path) -> None:
    for level, path in enumerate(("x/1", "x/2", "y/1")):
        paint(tmp_path / "a" / "train" / f"{path}.png", level)
        paint(tmp_path / "b" / "set" / f"{path}.bmp", 100 + level)
    source = Paired(str(tmp_path / "a"), str(tmp_path / "b"), resolution=16)
    assert torch.equal(source.read(np.arange(3))["source"] + 100, source.read(np.arange(3))["target"])
    (tmp_path / "b" / "set" / "x" / "2.bmp").rename(tmp_path / "b" / "set" / "y" / "2.bmp")
    with pytest.raises(UserError, match=r"holds no counterpart of train/x/2\.png: pairs have equal names"):
        Paired(str(tmp_path / "a"), str(tmp_path / "b"))


def test_two_pictures_of_one_name_are_refused_by_name(tmp_path: Path) -> None:
    for path in ("a/x.bmp", "a/x.png", "a/y.png", "b/x.png", "b/y.png"):
        paint(tmp_path / path, 10)
    with pytest.raises(UserError, match=r"--data\.root \S+: x\.bmp and x\.png are both called x"):
        Paired(str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(UserError, match=r"--data\.root_b \S+: x\.bmp and x\.png are both called x"):
        Paired(str(tmp_path / "b"), str(tmp_path / "a"))


@pytest.mark.parametrize("kind", [Paired, Unpaired])
def test_what_is_wrong_with_the_pictures_b_is_said_of_their_setting(
    kind: type[Paired | Unpaired], tmp_path: Path
) -> None:
    paint(tmp_path / "a" / "x.png", 10)
    with pytest.raises(UserError, match=r"--data\.root_b \S+/none: there is no such folder"):
        kind(str(tmp_path / "a"), str(tmp_path / "none"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.png").touch()
    with pytest.raises(UserError, match=r"--data\.root_b \S+/b: the image x\.png cannot be read"):
        kind(str(tmp_path / "a"), str(tmp_path / "b"))


@pytest.mark.parametrize("kind", [Paired, Unpaired])
def test_pictures_b_without_pictures_a_are_refused(kind: type[Paired | Unpaired], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data\.root_b \S+ needs --data\.root, the pictures A"):
        kind(root_b=str(tmp_path))


def test_pictures_side_by_side_are_cut_in_the_middle(tmp_path: Path) -> None:
    sheet = Image.new("RGB", (48, 24), (200, 200, 200))
    sheet.paste((50, 50, 50), (0, 0, 24, 24))
    (tmp_path / "train").mkdir()
    sheet.save(tmp_path / "train" / "x.png")
    batch = Paired(str(tmp_path), resolution=16).read(np.arange(1))
    assert batch["source"].unique().tolist() == [50]
    assert batch["target"].unique().tolist() == [200]
    back = Paired(str(tmp_path), direction="ba", resolution=16).read(np.arange(1))
    assert torch.equal(back["source"], batch["target"])


def test_pictures_side_by_side_of_odd_width_are_refused_by_name(tmp_path: Path) -> None:
    paint(tmp_path / "odd.png", 3, size=(33, 16))
    with pytest.raises(UserError, match=r"odd\.png cannot be read \(33 pixels wide: two pictures side by side"):
        Paired(str(tmp_path), resolution=16)


def test_what_was_done_to_pictures_side_by_side_is_said(tmp_path: Path) -> None:
    paint(tmp_path / "x.png", 3, size=(16, 8))
    (tmp_path / "readme.txt").touch()
    notes = Paired(str(tmp_path), resolution=16).notes
    assert "1 file ignored, not images: 1 .txt" in notes
    assert any("smaller than the resolution" in note for note in notes)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": 2, "source_channels": 2}, r"--data\.source_channels 2: 3 \(colour\) or 1 \(grey\)"),
        ({"channels": 2}, r"--data\.channels 2: 3 \(colour\) or 1 \(grey\)"),
        ({"resolution": 0}, r"--data\.resolution 0 is too small: 4 or more"),
    ],
)
def test_a_shape_that_no_picture_has_is_refused_side_by_side(tmp_path: Path, settings: dict, words: str) -> None:
    paint(tmp_path / "x.png", 3, size=(48, 24))
    with pytest.raises(UserError, match=words):
        Paired(str(tmp_path), **settings)


def test_two_sets_are_found_below_a_folder_or_an_archive(tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / "set" / "trainA" / f"{i}.png", 10 + i)
    for i in range(5):
        paint(tmp_path / "set" / "trainB" / f"{i}.png", 100 + i)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for path in sorted((tmp_path / "set").rglob("*.png")):
            file.write(path, path.relative_to(tmp_path))
    for root in (tmp_path / "set", tmp_path / "set.zip"):
        source = Unpaired(str(root), resolution=16)
        assert len(source) == 5, "as long as the larger set"
        batch = source.read(np.arange(5))
        assert batch["a"][:, 0, 0, 0].tolist() == [10, 11, 12, 10, 11]
        assert sorted(batch["b"][:, 0, 0, 0].tolist()) == [100, 101, 102, 103, 104]
    assert Unpaired(str(tmp_path / "set" / "trainA"), str(tmp_path / "set" / "trainB"), resolution=16).read(ROWS % 5)
    with pytest.raises(UserError, match="neither testA and testB nor A and B"):
        Unpaired(str(tmp_path / "set"), split="test")


@pytest.mark.parametrize("layout", ["{}/A", "{}A", "set/{}/a", "{}/set/A"])
def test_two_sets_are_those_of_their_split(tmp_path: Path, layout: str) -> None:
    for level, split in ((10, "test"), (20, "train"), (30, "valid")):
        a = layout.format(split)
        paint(tmp_path / a / "x.png", level)
        paint(tmp_path / (a[:-1] + ("B" if a[-1] == "A" else "b")) / "x.png", level + 1)
    for level, asked, split in ((10, "test", "test"), (20, "train", "train"), (30, "val", "valid")):
        source = Unpaired(str(tmp_path), resolution=16, split=asked)
        batch = source.read(np.arange(1))
        assert (batch["a"].unique().item(), batch["b"].unique().item()) == (level, level + 1)
        assert source.split == split
    for path in (tmp_path / layout.format("train")).iterdir():
        path.unlink()
    with pytest.raises(UserError, match="neither trainA and trainB nor A and B in it, only those of test and valid"):
        Unpaired(str(tmp_path))


def test_a_and_b_alone_are_all_there_is(tmp_path: Path) -> None:
    for path in ("A/x.png", "B/x.png"):
        paint(tmp_path / path, 10)
    assert {Unpaired(str(tmp_path), split=split).split for split in ("train", "all")} == {"all"}
    with pytest.raises(UserError, match=r"--data\.split test: \S+ has no splits, that is folders testA and testB"):
        Unpaired(str(tmp_path), split="test")


@pytest.mark.parametrize("sides", [("trainA", "trainB"), ("A", "B"), ("train/A", "train/B")])
def test_of_several_pairs_of_sets_none_is_taken(tmp_path: Path, sides: tuple[str, str]) -> None:
    for around in ("aa", "zz"):
        for side in sides:
            paint(tmp_path / around / side / "x.png", 10)
    with pytest.raises(UserError, match=f"which of aa/{sides[0]} and zz/{sides[0]}\\?"):
        Unpaired(str(tmp_path))
    assert Unpaired(str(tmp_path / "zz")), "the one that is named"


def test_pictures_beside_each_other_are_no_two_sets(tmp_path: Path) -> None:
    for path in ("x.png", "trainx/x.png", "train/x.png"):
        paint(tmp_path / path, 10)
    with pytest.raises(UserError, match="neither trainA and trainB nor A and B in it; name"):
        Unpaired(str(tmp_path))


def test_every_a_meets_every_b_when_training() -> None:
    source = Unpaired()
    read = source.read(ROWS)
    seen = source.augment(read, np.linspace(0, 0.9, 12))
    other = source.augment(read, np.linspace(0.01, 0.91, 12))
    assert torch.equal(seen["a"], read["a"])
    assert not torch.equal(seen["b"], other["b"])


def test_colours_become_their_luma() -> None:
    source = made_pairs.Colorize()
    batch = source.read(ROWS)
    grey = (batch["target"].double() * torch.tensor(made_pairs.GREY, dtype=torch.float64).view(1, 3, 1, 1)).sum(1)
    assert (batch["source"][:, 0].double() - grey).abs().max() <= 0.5 + 1e-4


@pytest.mark.parametrize("mask", ["square", "half", "strokes", "pixels", "mixed"])
def test_holes_hide_what_they_say_and_nothing_else(mask: made_pairs.Mask) -> None:
    source = made_pairs.Inpaint(mask=mask)
    batch = source.read(ROWS)
    hole = torch.from_numpy(made_pairs.holes(mask, ROWS, 32))[:, None].expand_as(batch["source"])
    assert (batch["source"][hole] == 128).all()
    assert torch.equal(batch["source"][~hole], batch["target"][~hole])
    share = hole.float().mean().item()
    assert {"square": 0.25, "half": 0.5, "pixels": 0.75}.get(mask, share) == pytest.approx(share, abs=0.01)
    assert 0.05 < share < 0.8
    assert len(made_pairs.holes(mask, ROWS, 32).reshape(12, -1).any(0).nonzero()[0]) > 32 * 16
    assert len({h.tobytes() for h in made_pairs.holes(mask, np.arange(100), 32)}) > 3, "holes of more than one place"


def test_noise_has_the_deviation_it_names() -> None:
    batch = made_pairs.Denoise(deviation=10).read(np.arange(200))
    middle = (batch["target"] > 60) & (batch["target"] < 195)  # elsewhere it is clipped
    noise = batch["source"].float() - batch["target"].float()
    assert noise[middle].std().item() == pytest.approx(10, rel=0.02)
    assert noise[middle].mean().item() == pytest.approx(0, abs=0.1)


def test_edges_are_dark_where_the_shape_ends_and_white_elsewhere() -> None:
    batch = made_pairs.Edges().read(ROWS)
    assert (batch["source"][:, :, 0] == 255).all(), "nothing ends at the border"
    assert (batch["source"].flatten(1).amin(1) < 128).all()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_low_is_high_made_smaller(factor: int) -> None:
    batch = made_pairs.SuperResolution(factor=factor).read(ROWS)
    assert batch["low"].shape[-1] == 32 // factor
    means = torch.nn.functional.avg_pool2d(batch["high"].float(), factor)
    assert (batch["low"].float() - means).abs().mean() < 6


def test_bicubic_is_pillows() -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), dtype=np.uint8))
    ours = made_pairs.reduced(image, 4)
    theirs = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize((8, 8), Image.Resampling.BICUBIC)
    difference = ours[0].permute(1, 2, 0).int() - torch.from_numpy(np.array(theirs)).int()
    assert difference.abs().max() <= 1
    assert not torch.equal(ours, made_pairs.reduced(image, 4, "bicubic-aliased"))


def test_crops_come_from_the_centre_when_scored_and_from_anywhere_when_trained_on(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    source = made_pairs.SuperResolution(str(tmp_path), resolution=16)
    batch = source.read(np.zeros(50, np.int64))
    assert batch["high"][:, 0, 0, 0].unique().tolist() == [24]
    lefts = source.augment(batch, np.linspace(0, 0.99, 50))["high"][:, 0, 0, 0]
    assert lefts.min() < 8
    assert lefts.max() > 40


def test_one_folder_of_an_archive_may_be_the_root(tmp_path: Path) -> None:
    for name in ("x", "y"):
        paint(tmp_path / name / "0.png", 10 if name == "x" else 20)
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as file:
        for name in ("x", "y"):
            file.write(tmp_path / name / "0.png", f"{name}/0.png")
    folder = registry.load("folder", "data")
    levels = [folder(f"{tmp_path}/both.zip/{name}", resolution=16).read(np.arange(1))["image"].max() for name in "xy"]
    assert [int(level) for level in levels] == [10, 20]
    with pytest.raises(UserError, match="no images in it"):
        folder(f"{tmp_path}/both.zip/z")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("paired", {"direction": "ac"}, "--data.direction ac: ab or ba"),
        ("inpaint", {"mask": "squares"}, "did you mean 'square'"),
        ("denoise", {"deviation": 0}, "--data.deviation 0: more than 0"),
        ("denoise", {"deviation": float("nan")}, "--data.deviation nan: more than 0"),
        ("super-resolution", {"factor": 3}, "--data.factor 3: 2, 4 or 8"),
        ("super-resolution", {"resolution": 20, "factor": 8}, "no multiple of --data.factor 8"),
        ("super-resolution", {"resolution": 0}, "--data.resolution 0 is too small: the --data.factor 4 or more"),
        ("super-resolution", {"resolution": -4}, "--data.resolution -4 is too small: the --data.factor 4 or more"),
        ("super-resolution", {"resolution": 32, "side": 16}, "no crop of that size"),
    ],
)
def test_a_wrong_setting_is_named(name: str, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        registry.load(name, "data")(**settings)


@pytest.mark.parametrize("name", ["paired", "unpaired", *MADE])
def test_each_keeps_the_contract_of_a_source(name: str) -> None:
    check_data(name)
