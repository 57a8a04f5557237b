"""`lgen translate`: any size, names kept, tiles without seams, all pictures or none."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

from lightning_gen import translate
from lightning_gen.checkpoints import AtomicCheckpointIO
from lightning_gen.cli import main
from lightning_gen.errors import UserError
from lightning_gen.models.ae import DenoisingAE
from lightning_gen.models.cyclegan import CycleGAN
from lightning_gen.models.dcgan import DCGAN
from lightning_gen.models.pix2pix import Pix2Pix
from lightning_gen.models.srgan import SRGAN
from lightning_gen.module import ORIGIN, GenerativeModule
from lightning_gen.translate import Translator, padded

SMALL: dict[str, Any] = {
    "pix2pix": lambda: Pix2Pix((3, 32, 32), width=4, patch=16, norm="instance"),
    "cyclegan": lambda: CycleGAN((3, 16, 16), width=4, blocks=1, patch=16, history=2),
    "srgan": lambda: SRGAN((3, 32, 32), width=4, blocks=1, dense=4),
    "denoising-ae": lambda: DenoisingAE((3, 32, 32), latent_dim=4, widths=(4,), hidden=(8,)),
    "dcgan": lambda: DCGAN((3, 32, 32), latent_dim=4, width=2),
}


def lgen(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="lgen")


def save(name: str, path: Path) -> tuple[GenerativeModule, Path]:
    torch.manual_seed(0)
    model = SMALL[name]()
    content = {
        ORIGIN: {"model": name, "distribution": "lightning-gen", "version": "0"},
        "hyper_parameters": dict(model.hparams),
        "state_dict": model.state_dict(),
    }
    AtomicCheckpointIO().save_checkpoint(content, path / f"{name}.ckpt")
    return model, path / f"{name}.ckpt"


def paint(path: Path, height: int, width: int, mode: str = "RGB", seed: int = 0) -> None:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    levels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)


def pixels(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


@pytest.mark.parametrize(("name", "factor"), [("pix2pix", 1), ("cyclegan", 1), ("srgan", 4), ("denoising-ae", 1)])
def test_every_size_keeps_its_size_and_every_picture_its_name(name: str, factor: int, tmp_path: Path) -> None:
    _, checkpoint = save(name, tmp_path)
    sizes = {"a": (33, 47), "b": (32, 32), "deep/c": (1, 5), "d": (32, 32)}
    for stem, (height, width) in sizes.items():
        paint(tmp_path / "in" / f"{stem}.png", height, width)
    done = lgen("translate", checkpoint, "--input", tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for stem, (height, width) in sizes.items():
        assert pixels(tmp_path / "out" / f"{stem}.png").shape == (3, height * factor, width * factor)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.ckpt", "in", "out"}, "nothing else is left"


def test_a_model_of_one_size_restores_a_picture_of_it_whole_and_larger_ones_in_blended_tiles() -> None:
    torch.manual_seed(0)
    model = SMALL["denoising-ae"]()
    translator = Translator(model, "image")
    small, large = picture(32, 32), picture(40, 70)
    with torch.no_grad():
        again = model.eval().decode(model.encode(small[None] / 127.5 - 1))[0]
    made = translator.whole(small[None])[0]
    torch.testing.assert_close(made / 127.5 - 1, again, atol=1.01 / 127.5, rtol=0)
    assert not translator.fits(40, 70)
    tiled = translator.tiled(large)
    assert tiled.shape == large.shape
    corner = translator.whole(large[None, :, :32, :32])[0]
    assert torch.equal(tiled[:, :8, :8], corner[:, :8, :8])  # no other tile reaches there
    with pytest.raises(UserError, match="reads 32 pixels a side"):
        Translator(model, "image", tile=64)


def test_a_picture_does_not_depend_on_the_batch_it_is_translated_in(tmp_path: Path) -> None:
    _, checkpoint = save("cyclegan", tmp_path)
    for i in range(5):
        paint(tmp_path / "in" / f"{i}.png", 24, 20, seed=i)
    for size in (1, 3):
        lgen("translate", checkpoint, "--input", tmp_path / "in", "--out", tmp_path / str(size), "--batch-size", size)
    for i in range(5):
        ours, theirs = (pixels(tmp_path / size / f"{i}.png").int() for size in "13")
        assert (ours - theirs).abs().max() <= 1


def test_one_file_is_enough_and_a_sheet_shows_it(tmp_path: Path) -> None:
    _, checkpoint = save("srgan", tmp_path)
    paint(tmp_path / "x.jpg", 10, 12)
    done = lgen(
        "translate", checkpoint, "--input", tmp_path / "x.jpg", "--out", tmp_path, "--sheet", tmp_path / "s.png"
    )
    assert done.exit_code == 0, done.output
    assert pixels(tmp_path / "x.png").shape == (3, 40, 48)
    assert pixels(tmp_path / "s.png").shape == (3, 256, 2 * 256 + 2)


def test_a_folder_of_an_archive_is_input_and_reference_too(tmp_path: Path) -> None:
    _, checkpoint = save("cyclegan", tmp_path)
    for side in ("testA", "testB"):
        for i in range(2):
            paint(tmp_path / "set" / side / f"{i}.png", 16, 16, seed=i)
    packed = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "set")
    done = lgen("translate", checkpoint, "--input", f"{packed}/testA", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png", "1.png"}
    scored = lgen("evaluate", f"{packed}/testA", "--reference", f"{packed}/testB", "--metrics", "psnr", "--json")
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["scores"]["psnr"] is None, "equal pictures"
    assert lgen("translate", checkpoint, "--input", f"{packed}/none", "--out", tmp_path / "o").exit_code == 2


def test_directions_of_cyclegan_are_its_two_generators(tmp_path: Path) -> None:
    model, checkpoint = save("cyclegan", tmp_path)
    paint(tmp_path / "x.png", 16, 16)
    seen = pixels(tmp_path / "x.png")[None]
    for direction, generator in (("ab", model.generator_ab), ("ba", model.generator_ba)):
        lgen("translate", checkpoint, "--input", tmp_path / "x.png", "--out", tmp_path / direction,
             "--direction", direction)  # fmt: skip
        wanted = (generator.eval()(seen.float() / 127.5 - 1)[0].detach() + 1) * 127.5
        got = pixels(tmp_path / direction / "x.png")
        assert (got.float() - wanted).abs().max() < 1


@pytest.mark.parametrize(("height", "width"), [(70, 61), (31, 200), (129, 64)])
def test_tiles_that_share_enough_give_the_untiled_picture(height: int, width: int) -> None:
    torch.manual_seed(0)
    model = SMALL["srgan"]()
    model.generator.up[-1].weight.data.mul_(50)  # of an untrained network all pictures look alike
    whole = Translator(model, "low", tile=1024, overlap=0).whole(picture(height, width)[None])[0]
    reach = model.reach
    tiled = Translator(model, "low", tile=2 * reach + 21, overlap=2 * reach).tiled(picture(height, width))
    assert (whole.int() - tiled.int()).abs().max() <= 1, "to the rounding of a level"
    less = Translator(model, "low", tile=2 * reach + 21, overlap=0).tiled(picture(height, width))
    assert (whole.int() - less.int()).abs().max() > 1


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan"])
def test_the_weights_of_tiles_add_up_to_one_everywhere(name: str) -> None:
    translator = Translator(SMALL[name](), "source", tile=64, overlap=20)
    for length in range(64, 400, translator.model.stride):
        starts = translator._starts(length)
        size = min(64, length)
        total = torch.zeros(length)
        for start, weight in zip(starts, translator._weights(starts, size), strict=True):
            assert start % translator.model.stride == 0
            assert (weight >= 0).all()
            total[start : start + size] += weight
        assert starts[-1] + size == length
        assert torch.allclose(total, torch.ones(length), atol=1e-5)
        assert all(b - a <= 64 - 20 or translator.model.stride > 4 for a, b in itertools.pairwise(starts))


def test_a_network_that_does_nothing_leaves_a_tiled_picture_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SMALL["cyclegan"]()
    model.generator_ab = torch.nn.Identity()
    given = picture(301, 222)
    assert torch.equal(Translator(model, "a", tile=64, overlap=16).tiled(given), given)


def test_padding_mirrors_until_the_sides_fit() -> None:
    given = picture(5, 8)
    wide = padded(given, 8)
    assert wide.shape == (3, 16, 16)
    assert torch.equal(wide[:, :5, :8], given)
    assert torch.equal(wide[:, 5, :8], given[:, 3])
    assert padded(picture(17, 32), 8).shape == (3, 24, 32)
    assert padded(picture(1, 1), 32).shape == (3, 32, 32)


def test_an_overlap_of_half_a_tile_is_refused() -> None:
    with pytest.raises(UserError, match="--overlap 32: less than half of a tile, which has 64"):
        Translator(SMALL["cyclegan"](), "a", tile=64, overlap=32)


def mistake(tmp_path: Path, *arguments: object) -> str:
    before = sorted(tmp_path.rglob("*"))
    done = lgen(*arguments)
    assert done.exit_code == 2, done.output
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"
    said = done.stderr[done.stderr.index("Error: ") + 7 :].strip()
    assert len(said.splitlines()) <= 2
    return said


def test_what_others_put_beside_the_output_stays_when_it_comes_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cycle = save("cyclegan", tmp_path)
    paint(tmp_path / "in" / "0.png", 16, 16)

    def in_batches(*arguments: object) -> None:
        (tmp_path / "far" / "theirs").mkdir()
        raise UserError("no")

    monkeypatch.setattr(translate, "in_batches", in_batches)
    done = lgen("translate", cycle, "--input", tmp_path / "in", "--out", tmp_path / "far" / "out")
    assert (done.exit_code, done.stderr) == (2, "Error: no\n")
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["theirs"]


def test_translations_can_be_written_to_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, cycle = save("cyclegan", tmp_path)
    paint(tmp_path / "in" / "0.png", 16, 16)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = lgen("translate", cycle, "--input", tmp_path / "in", "--out", ".")
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["0.png"]


def test_mistakes_are_named_and_leave_nothing(tmp_path: Path) -> None:
    _, cycle = save("cyclegan", tmp_path)
    _, pix2pix = save("pix2pix", tmp_path)
    _, dcgan = save("dcgan", tmp_path)
    for i in range(12):
        paint(tmp_path / "in" / f"{i:02}.png", 16, 16)
    paint(tmp_path / "grey" / "0.png", 16, 16)
    paint(tmp_path / "grey" / "1.png", 16, 16, mode="L")
    paint(tmp_path / "twice" / "x.png", 16, 16)
    paint(tmp_path / "twice" / "x.bmp", 16, 16)
    (tmp_path / "empty").mkdir()
    given, out = tmp_path / "in", tmp_path / "far" / "out"
    to = ("--out", out)
    assert "holds a dcgan, which makes no pictures of pictures" in mistake(
        tmp_path, "translate", dcgan, "--input", given, *to
    )
    assert "pix2pix goes one way, from source to target" in mistake(
        tmp_path, "translate", pix2pix, "--input", given, *to, "--direction", "ba"
    )
    said = mistake(tmp_path, "translate", cycle, "--input", tmp_path / "grey", *to, "--batch-size", 1)
    assert said == "the picture 1 is grey, and this cyclegan reads colours: give it three channels"
    assert "would both become x.png" in mistake(tmp_path, "translate", cycle, "--input", tmp_path / "twice", *to)
    assert "no pictures in it" in mistake(tmp_path, "translate", cycle, "--input", tmp_path / "empty", *to)
    assert "there is no picture, folder or archive" in mistake(tmp_path, "translate", cycle, "--input", "none", *to)
    assert "there is no run or checkpoint" in mistake(tmp_path, "translate", "none", "--input", given, *to)
    paint(tmp_path / "deep" / "a.png", 16, 16)
    paint(tmp_path / "deep" / "b" / "c.png", 16, 16)
    deep = ("translate", cycle, "--input", tmp_path / "deep", "--out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "b").touch()  # where a folder shall be
    assert "cannot write to --out" in mistake(tmp_path, *deep, tmp_path / "taken")
    (tmp_path / "held" / "b" / "c.png").mkdir(parents=True)
    assert "c.png is a folder" in mistake(tmp_path, *deep, tmp_path / "held")
    assert "is a folder: name a file" in mistake(tmp_path, *deep, out, "--sheet", tmp_path / "taken")
    assert "cannot write --sheet" in mistake(tmp_path, *deep, out, "--sheet", tmp_path / "taken" / "b" / "sheet.png")
    assert mistake(tmp_path, *deep, "/") == "--out /: name a folder in it"
    (tmp_path / "in" / "11.png").write_bytes(b"no picture")
    assert "the picture 11 cannot be read (not an image, or of a kind that is not read)" in mistake(
        tmp_path, "translate", cycle, "--input", given, *to, "--batch-size", 2
    )


def test_an_output_on_another_disk_is_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, cycle = save("cyclegan", tmp_path)
    paint(tmp_path / "in" / "0.png", 16, 16)
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    move = os.replace

    def between_disks(source: Path, target: Path) -> None:
        there = [(tmp_path / "disk") in path.resolve().parents for path in (source, target)]
        if there[0] != there[1]:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source), None, str(target))
        move(source, target)

    monkeypatch.setattr(os, "replace", between_disks)
    done = lgen("translate", cycle, "--input", tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["0.png"]


def test_what_a_killed_process_left_is_not_taken_for_a_translation(tmp_path: Path) -> None:
    _, cycle = save("cyclegan", tmp_path)
    paint(tmp_path / "in" / "0.png", 16, 16)
    for left in (tmp_path / f".out.{os.getpid()}", tmp_path / "out" / f".{os.getpid()}"):  # containers count from 1
        paint(left / "1.png", 16, 16)
    done = lgen("translate", cycle, "--input", tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["0.png"]


def test_no_picture_of_the_user_is_overwritten(tmp_path: Path) -> None:
    _, cycle = save("cyclegan", tmp_path)
    paint(tmp_path / "in" / "0.png", 16, 16)
    paint(tmp_path / "in" / "1.bmp", 16, 16)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    before = (tmp_path / "in" / "0.png").read_bytes()
    for given in (tmp_path / "in", tmp_path / "in" / "0.png"):
        for out in (tmp_path / "in", tmp_path / "link"):
            said = mistake(tmp_path, "translate", cycle, "--input", given, "--out", out)
            assert said.endswith("0.png is one of the pictures to translate, name another folder")
    to = ("translate", cycle, "--input", tmp_path / "in", "--out", tmp_path / "out")
    for sheet in (tmp_path / "in" / "0.png", tmp_path / "out" / "1.png"):  # a translation is no place either
        assert "is one of the pictures, name another file" in mistake(tmp_path, *to, "--sheet", sheet)
    assert (tmp_path / "in" / "0.png").read_bytes() == before
    done = lgen("translate", cycle, "--input", tmp_path / "in" / "1.bmp", "--out", tmp_path / "in")
    assert done.exit_code == 0, done.output
