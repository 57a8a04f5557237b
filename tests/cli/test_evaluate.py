"""`lgen evaluate`: any program's images, and the mistakes and doubts that it speaks of."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from lightning_gen import images, scoring
from lightning_gen.cli import main
from lightning_gen.data.shapes import Shapes
from lightning_gen.metrics import frechet_distance
from lightning_gen.metrics.extractors import Tiny

FEW = 48
ALL = 2_112
"""Images of `shapes` here, a reference that is looked at in seconds, and not too small for scores."""


@pytest.fixture(scope="module", autouse=True)
def small_reference() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        defaults = Shapes.__init__.__defaults__
        patch.setattr(Shapes.__init__, "__defaults__", tuple(ALL if each == 10_000 else each for each in defaults))
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first images of the test split of `shapes`, as files."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, picture in enumerate(Shapes(split="test", size=FEW).read(np.arange(FEW))["image"]):
        images.save_png(picture, folder / f"{i:03d}.png")
    return folder


def evaluate(*arguments: Any) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output + repr(result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found | {"said": result.stderr}


def refused(*arguments: Any) -> str:
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 2, result.output + repr(result.exception)
    said = [line for line in result.output.splitlines() if not line.startswith("preparing ")]
    assert len(said) <= 2
    return result.output


def test_images_of_any_program_get_the_scores_of_their_pixels(pictures: Path) -> None:
    found = evaluate(pictures, "--reference", "shapes", "--metrics", "fid,prdc,modes")
    extractor = Tiny()
    theirs = Shapes(split="test", size=FEW).read(np.arange(FEW))["image"]
    ours = Shapes().read(np.arange(ALL))["image"]
    features = torch.cat([extractor(part).features for part in ours.split(256)])
    expected = frechet_distance(features, extractor(theirs).features)
    assert found["scores"]["fid/tiny"] == pytest.approx(expected, rel=1e-4)
    assert found["scores"]["on_manifold"] == 1.0
    assert set(found["scores"]) == {
        "fid/tiny", "precision/tiny", "recall/tiny", "density/tiny", "coverage/tiny", "mode_coverage", "on_manifold",
    }  # fmt: skip


def test_the_passport_stands_beside_the_scores(pictures: Path) -> None:
    passport = evaluate(pictures, "--reference", "shapes", "--metrics", "fid,is,kid")["passport"]
    told = ("extractor", "resize", "rounding", "n_fake", "n_reference", "split", "reference", "dtype")
    assert [passport[key] for key in told] == [
        "tiny", "antialiased-bicubic", "none", FEW, ALL, "train", "shapes gentle", "float32",
    ]  # fmt: skip
    assert passport["settings"] == {"is.splits": 10, "kid.subsets": 100, "kid.subset_size": FEW}
    assert len(passport["digest"]) == 8


def test_a_folder_and_an_archive_of_the_same_images_score_the_same(pictures: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "pictures"), "zip", pictures)
    one, other = (evaluate(p, "--reference", "shapes", "--metrics", "fid") for p in (pictures, archive))
    assert one["scores"] == other["scores"]
    assert one["passport"]["digest"] == other["passport"]["digest"]


def test_a_changed_pixel_of_the_reference_is_not_answered_from_the_cache(pictures: Path, tmp_path: Path) -> None:
    copy = tmp_path / "reference"
    shutil.copytree(pictures, copy)
    before = evaluate(pictures, "--reference", copy, "--metrics", "fid")
    picture = Image.open(copy / "000.png")
    picture.putpixel((3, 3), (1, 2, 3))
    picture.save(copy / "000.png")
    after = evaluate(pictures, "--reference", copy, "--metrics", "fid")
    assert before["passport"]["reference_digest"] != after["passport"]["reference_digest"]
    assert before["scores"] != after["scores"]


def test_it_says_when_the_reference_came_from_the_cache(pictures: Path) -> None:
    command = ["evaluate", str(pictures), "--reference", "shapes", "--metrics", "fid"]
    CliRunner().invoke(main, command)
    assert "from the cache" in CliRunner().invoke(main, command).output


def test_a_reference_that_is_the_scored_set_itself_is_doubted(pictures: Path) -> None:
    said = evaluate(pictures, "--reference", pictures, "--metrics", "fid")["said"]
    assert "the very set that is scored" in said
    assert f"only {FEW} images" in said
    assert "too high" in said


def test_copies_and_plain_colours_are_doubted(tmp_path: Path) -> None:
    for i in range(20):
        Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / f"{i}.png")
    said = evaluate(tmp_path, "--reference", "shapes", "--metrics", "fid")["said"]
    assert "19 of 20 images are exact copies" in said
    assert "20 of 20 images show a single colour" in said


def test_images_of_other_kinds_are_converted_and_that_is_said(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 4), dtype=np.uint8)
    Image.fromarray(colours[0, ..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(colours[1]).save(tmp_path / "rgba.png")
    Image.fromarray(colours[2, ..., 0].astype(np.uint16) * 200).save(tmp_path / "deep.png")
    Image.fromarray(colours[3, ..., :3]).resize((40, 40)).save(tmp_path / "larger.png")
    said = evaluate(tmp_path, "--reference", "shapes", "--metrics", "fid")["said"]
    for part in ("grey given three", "transparency put on white", "16 bits scaled", "different sizes (32x32, 40x40)"):
        assert part in said


def test_mistakes_are_named(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "bad" / "y.png")
    (tmp_path / "one").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "one" / "x.png")
    assert "no run, checkpoint, folder or archive" in refused(tmp_path / "nothing", "--reference", "shapes")
    assert "no images in it" in refused(tmp_path / "empty", "--reference", "shapes")
    assert "x.png cannot be read" in refused(tmp_path / "bad", "--reference", "shapes")
    assert "at least 2 images" in refused(tmp_path / "one", "--reference", "shapes", "--metrics", "fid")
    assert "--reference NAME" in refused(pictures)
    assert "shapes" in refused(pictures, "--reference", "shape")
    assert "there are only 48" in refused(pictures, "--reference", "shapes", "--n", 49)
    assert "did you mean 'fid'" in refused(pictures, "--reference", "shapes", "--metrics", "fidd")
    assert "--metrics ',' names nothing" in refused(pictures, "--reference", "shapes", "--metrics", ",")
    assert "papers" in refused(pictures, "--reference", "shapes", "--protocol", "paper")
    assert "already" in refused(pictures, "--reference", "shapes", "--protocol", "papers", "--extractor", "tiny")
    assert "--raw" in refused(pictures, "--reference", "shapes", "--raw")
    named = ("--extractor", "inception-v3-compat", "--weights", "/no/such")
    assert "no file /no/such (--weights)" in refused(pictures, "--reference", "shapes", *named)


def test_scores_that_need_more_images_are_left_out_and_refused_by_name_before_any_sampling(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for i in range(3):
        Image.open(pictures / f"{i:03d}.png").save(few / f"{i}.png")
    assert list(evaluate(few, "--reference", pictures)["scores"]) == ["fid/tiny", "kid/tiny", "kid/tiny/std"]
    of_few = evaluate(pictures, "--reference", few)["scores"]
    assert "is/tiny" in of_few
    assert "precision/tiny" not in of_few
    monkeypatch.delattr(scoring, "evaluate")
    said = refused(few, "--reference", pictures, "--metrics", "is")
    assert "--metrics is: it needs at least 10 images, not 3" in said
    said = refused(pictures, "--reference", few, "--metrics", "fid,prdc")
    assert "--metrics prdc: it needs at least 4 reference images, not 3" in said


def test_pairs_are_found_by_name_and_scored_one_by_one(pictures: Path, tmp_path: Path) -> None:
    for file in pictures.iterdir():
        darker = np.asarray(Image.open(file)).astype(int) - 10
        Image.fromarray(darker.clip(0).astype(np.uint8)).save(tmp_path / f"{file.stem}.bmp")
    found = evaluate(tmp_path, "--reference", pictures, "--metrics", "psnr,ssim")["scores"]
    by_hand = []
    for file in pictures.iterdir():
        one, other = (np.asarray(Image.open(f)).astype(float) for f in (file, tmp_path / f"{file.stem}.bmp"))
        by_hand.append(10 * np.log10(255**2 / np.square(one - other).mean()))
    assert found["psnr"] == pytest.approx(np.mean(by_hand), rel=1e-6)
    assert 0.8 < found["ssim"] < 1


def test_pairs_that_are_none_are_named(pictures: Path, tmp_path: Path) -> None:
    lone, larger = tmp_path / "lone", tmp_path / "larger"
    for folder in (lone, larger):
        folder.mkdir()
    Image.new("RGB", (32, 32)).save(lone / "000.png")
    Image.new("RGB", (33, 32)).save(larger / "000.png")
    assert "no counterpart of 001" in refused(lone, "--reference", pictures, "--metrics", "psnr")
    assert "the pair 000 has two sizes, 33x32 and 32x32" in refused(larger, "--reference", lone, "--metrics", "ssim")
    assert "ask for them apart" in refused(lone, "--reference", lone, "--metrics", "psnr,fid")
    assert "--reference FOLDER" in refused(lone, "--metrics", "psnr")
    assert "images have no weights" in refused(lone, "--reference", lone, "--metrics", "psnr", "--raw")
    assert "--split: not for pairs" in refused(lone, "--reference", lone, "--metrics", "psnr", "--split", "test")
    said = refused(lone, "--reference", lone, "--metrics", "psnr", "--extractor", "tiny", "--weights", "w.pth")
    assert "--extractor, --weights: not for --metrics psnr, leave it out" in said
    Image.new("RGB", (32, 32), "white").save(lone / "000.bmp")
    said = refused(lone, "--reference", larger, "--metrics", "psnr")
    assert "000.bmp and 000.png are both called 000, as pairs are" in said


def test_as_many_pairs_are_compared_as_were_asked_for(tmp_path: Path) -> None:
    for folder, levels in (("ours", (0, 0, 255)), ("theirs", (51, 51, 0))):
        (tmp_path / folder).mkdir()
        for i, level in enumerate(levels):
            Image.new("L", (16, 16), level).save(tmp_path / folder / f"{i}.png")
    pairs = (tmp_path / "ours", "--reference", tmp_path / "theirs", "--metrics", "psnr", "--n")
    found = evaluate(*pairs, 2)
    assert found["scores"]["psnr"] == pytest.approx(20 * np.log10(5))
    assert (found["passport"]["n_fake"], found["passport"]["n_reference"]) == (2, 2)
    assert "--n 4: there are only 3 images" in refused(*pairs, 4)


# Runs

SMALL = ("--kimg", "0.008", "--metrics.every_kimg", "0", "--watch.every_kimg", "0", "--logger", "none")


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model that translates outlines."""
    out = tmp_path_factory.mktemp("runs") / "translator"
    small = ("--model", "pix2pix", "--preset", "quick", "--model.width", "4", "--data.batch_size", "4")
    done = CliRunner().invoke(main, ["fit", *small, "--data", "paired", *SMALL, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def drawer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model that draws."""
    out = tmp_path_factory.mktemp("runs") / "drawer"
    small = ("--model", "gan", "--model.width", "4", "--data.batch_size", "4")
    done = CliRunner().invoke(main, ["fit", *small, *SMALL, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.parametrize("metric", ["psnr", "ssim", "kept"])
def test_translations_are_compared_with_the_pictures_of_other_data_by_no_paired_score(
    translator: Path, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(translator, "--reference", "edges", "--metrics", f"{metric},fid", "--n", 64)
    assert said.startswith(f"Error: --metrics {metric} compares each image with the one that it should be, and the im")
    assert "leave out --reference" in said
    monkeypatch.setattr(scoring, "METRICS", ("is", "psnr", "ssim", "kept"))  # those that look at no whole reference
    found = evaluate(translator, "--reference", "edges", "--n", 64)["scores"]
    assert "is/tiny" in found
    assert not {"psnr", "ssim", "shape_kept"} & set(found), "nobody asked for them, so they are left out"


def test_translations_are_compared_with_their_own_targets_also_where_the_data_is_named(translator: Path) -> None:
    named = evaluate(translator, "--reference", "paired", "--metrics", "psnr,kept", "--n", 64)
    own = evaluate(translator, "--metrics", "psnr,kept", "--n", 64)
    assert named["scores"] == own["scores"]
    assert {"psnr", "shape_kept"} <= set(own["scores"])


def test_what_is_drawn_from_noise_has_no_right_answer(drawer: Path) -> None:
    said = refused(drawer, "--reference", "paired", "--metrics", "psnr", "--n", 64)
    assert "the images of this model are not made from those of shapes, outline and filled" in said


def test_a_run_and_a_model_are_no_reference_though_a_run_holds_pictures(
    drawer: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").touch()
    for reference in (drawer, tmp_path, drawer / "checkpoints" / "last.ckpt"):
        said = refused(pictures, "--reference", reference, "--metrics", "fid")
        assert said == (
            f"Error: --reference {reference} is a run or a model: name a data source or images, "
            f"such as those of `lgen sample {reference} --out DIR`\n"
        )


def test_it_says_when_the_data_is_not_what_the_run_was_trained_on(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "data")
    data = ("--data", "folder", "--data.root", str(tmp_path / "data"), "--data.batch_size", "4")
    run = tmp_path / "run"
    done = CliRunner().invoke(main, ["fit", "--model", "gan", "--model.width", "4", *data, *SMALL, "--out", str(run)])
    assert done.exit_code == 0, done.output
    asked = ("--metrics", "is", "--n", 64)
    assert "changed" not in evaluate(run, *asked)["said"]
    (tmp_path / "data" / "000.png").unlink()
    note = f"WARNING  the data of {run} changed since its training, and is compared as it is now\n"
    assert note in evaluate(run, *asked)["said"]
    assert note in evaluate(run, "--split", "train", *asked)["said"]
    assert "changed" not in evaluate(run, "--reference", pictures, *asked)["said"]
    assert "changed" not in evaluate(run, "--split", "all", *asked)["said"], "another part than it was trained on"
    shutil.rmtree(tmp_path / "data")
    assert refused(run, *asked).startswith(f"Error: the data of {run}: {tmp_path / 'data'}: there is no such folder")


def test_an_unreadable_image_is_named_with_the_option_that_this_verb_has_for_it(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "broken")
    (tmp_path / "broken" / "007.png").write_bytes((pictures / "007.png").read_bytes()[:60])
    said = refused(tmp_path / "broken", "--reference", "shapes", "--metrics", "is")
    assert said.endswith("\n`--on-error skip` leaves out what cannot be read\n")
    said = refused(pictures, "--reference", tmp_path / "broken", "--metrics", "is")
    assert "007.png cannot be read" in said
    assert "skip" not in said


def test_labels_of_other_classes_than_the_reference_has_are_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    small = ("--model", "cgan", "--preset", "quick", "--data.batch_size", "4")
    done = CliRunner().invoke(main, ["fit", *small, *SMALL, "--out", str(out)])
    assert done.exit_code == 0, done.output
    asked = (out, "--reference", "shapes", "--metrics", "modes", "--n", 8)
    assert "label_accuracy" in evaluate(*asked)["scores"]
    made = Shapes.__init__

    def renamed(self: Shapes, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        self.class_names = [f"kind {i}" for i in range(48)]

    monkeypatch.setattr(Shapes, "__init__", functools.wraps(made)(renamed))
    assert set(evaluate(*asked)["scores"]) == {"mode_coverage", "on_manifold"}


def test_what_reads_pixels_is_left_out_where_the_reference_has_other_channels() -> None:
    subject = scoring.Subject(lambda n, start: torch.zeros(n, 1, 32, 32), (1, 32, 32), {}, "none")
    panel = scoring.panel_of(subject, Shapes(size=48), Tiny(), ["fid", "modes"], 48)
    assert list(panel.scores) == ["fid"]
    assert panel.left_out == {"modes": "the images have other channels than the reference"}


def test_where_nothing_that_was_named_fits_there_is_no_score_and_it_says_why(pictures: Path) -> None:
    said = refused(pictures, "--reference", pictures, "--metrics", "digits,points")
    assert said.startswith("Error: --metrics digits: ")


def test_a_file_is_one_checkpoint_and_a_run_has_several(drawer: Path) -> None:
    file = drawer / "checkpoints" / "last.ckpt"
    said = refused(file, "--checkpoint", "best", "--metrics", "is")
    assert said == f"Error: --checkpoint best: {file} is no run, which has several, leave it out\n"
    assert evaluate(file, "--metrics", "is", "--n", 64) == evaluate(drawer, "--metrics", "is", "--n", 64)


def test_a_cache_that_cannot_be_written_is_one_line(
    drawer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LGEN_CACHE", str(tmp_path / "file" / "cache"))
    said = refused(drawer, "--metrics", "is,fid", "--n", 200)
    assert said.endswith("cannot be written (LGEN_CACHE): Not a directory\n")
    done = CliRunner().invoke(main, ["fit", "--model", "gan", "--kimg", "0.008", "--out", str(tmp_path / "run")])
    assert done.exit_code == 2, repr(done.exception)
    (said,) = done.stderr.splitlines()
    assert said.endswith("cannot be written (LGEN_CACHE): Not a directory")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["cuda:99", "foo", "meta", ""])
@pytest.mark.parametrize(
    "verb",
    [
        ["evaluate", "run"],
        ["sample", "run", "--grid", "grid.png"],
        ["translate", "run", "--input", "in", "--out", "out"],
        ["interpolate", "run"],
        ["benchmark", "run", "shapes"],
    ],
    ids=lambda verb: verb[0],
)
def test_a_device_that_is_not_there_is_named_before_anything_else(verb: list[str], device: str) -> None:
    done = CliRunner().invoke(main, [*verb, "--device", device])
    assert done.exit_code == 2, done.output + repr(done.exception)
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"Error: --device {device}: this machine has no such device (it has cpu")


@pytest.mark.parametrize("samples", ["0", "-5"])
def test_training_scores_some_samples_or_is_not_begun(samples: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = CliRunner().invoke(main, ["fit", "--model", "gan", f"--metrics.samples={samples}", "--out", str(out)])
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert f"--metrics.samples: must be more than 0, got {samples}" in done.stderr
    assert not out.exists()
