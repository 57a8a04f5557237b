"""age-cgan: published sizes, what the group does, and what `lgen translate --to` answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from lightning_gen.checkpoints import AtomicCheckpointIO
from lightning_gen.cli import main
from lightning_gen.data.groups import Groups
from lightning_gen.data.shapes import COLOURS
from lightning_gen.errors import UserError
from lightning_gen.models.age_cgan import AgeCGAN
from lightning_gen.models.dcgan import DCGAN
from lightning_gen.models.pix2pix import Pix2Pix
from lightning_gen.module import ORIGIN, GenerativeModule
from lightning_gen.testing import check_data

GROUPS = ["21-30", "41-50", "51-60"]


def small() -> AgeCGAN:
    torch.manual_seed(0)
    model = AgeCGAN((3, 16, 16), num_classes=3, width=4, discriminator_width=4, blocks=1)
    for name, scales in model.generator.named_parameters():
        if ".scale." in name:
            torch.nn.init.normal_(scales, 1.0, 0.5)  # untrained, all groups are alike
    torch.nn.init.normal_(model.generator.last.weight, std=0.1)  # and nothing is changed
    return model


def paint(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)


def save(model: GenerativeModule, name: str, path: Path) -> Path:
    about = {"model": name, "distribution": "lightning-gen", "version": "0"}
    about |= {"class_names": GROUPS} if model.num_classes else {}
    content = {ORIGIN: about, "hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    AtomicCheckpointIO().save_checkpoint(content, path / f"{name}.ckpt")
    return path / f"{name}.ckpt"


def test_sizes_are_those_of_the_published_code_but_for_the_parts_that_are_named() -> None:
    with torch.device("meta"):
        model = AgeCGAN(**AgeCGAN.presets["paper"])
    planes, scales = 5 * 64 * 7 * 7, 7424  # the original's label planes, and its norms' scales and shifts
    doublings = (256 * 128 + 128 * 64) * (16 - 9)  # 4x4 transposed there, 3x3 after an enlargement here
    biases = 64 + 3  # of the first and the last layer
    own_norms = 5 * (scales - 2 * 64)  # a scale and a shift for each group, and none in the first layer
    generator, discriminator = (
        sum(p.numel() for p in net.parameters()) for net in (model.generator, model.discriminator)
    )
    assert generator == 8_430_528 - planes - scales - doublings + biases + own_norms
    patches, classifier_biases = 2048 * 9, 5  # the head that judges patches went, the groups' branches have a bias
    assert discriminator == 44_762_048 - patches + classifier_biases


def test_it_begins_with_no_change() -> None:
    picture = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(AgeCGAN((3, 16, 16), 3, 4, 4, 1).generator(picture, torch.tensor([0, 2])), picture)


def test_a_picture_is_judged_by_the_branch_of_its_group() -> None:
    model = small()
    pictures = torch.rand(3, 3, 16, 16) * 2 - 1
    every = torch.stack([model.discriminator(pictures, torch.full((3,), group)) for group in range(3)], 1)
    torch.testing.assert_close(model.discriminator(pictures, torch.tensor([2, 0, 1])), every[range(3), [2, 0, 1]])


def test_another_group_is_another_picture_of_the_same_input() -> None:
    model = small()
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    made = [model.sample(1, condition={"image": picture, "label": torch.tensor([group])}) for group in range(3)]
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[1], made[2])


def test_without_files_the_groups_are_colours() -> None:
    check_data("groups")
    source = Groups()
    rows = np.arange(96)
    assert source.class_names == list(COLOURS)
    assert np.array_equal(source.read(rows)["label"].numpy(), source.factors(rows)["colour"])
    assert int(source.class_counts().sum()) == len(source)


def test_groups_of_files_are_folders_and_one_is_refused(tmp_path: Path) -> None:
    for i, group in enumerate(GROUPS):
        paint(tmp_path / "faces" / group / "0.png", i)
        paint(tmp_path / "one" / f"{i}.png", i)
    source = Groups(str(tmp_path / "faces"), resolution=16)
    assert source.class_names == GROUPS
    assert source.read(np.arange(3))["label"].tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="groups are folders of pictures, two or more"):
        Groups(str(tmp_path / "one"), resolution=16)


def test_translate_takes_pictures_to_the_group_that_is_named(tmp_path: Path) -> None:
    model = small()
    checkpoint = save(model, "age-cgan", tmp_path)
    paint(tmp_path / "in" / "face.png")
    arguments = ["translate", str(checkpoint), "--input", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*arguments, "--to", "51-60"], prog_name="lgen")
    assert done.exit_code == 0, done.output
    given = torch.from_numpy(np.array(Image.open(tmp_path / "in" / "face.png"))).permute(2, 0, 1)[None]
    made = torch.from_numpy(np.array(Image.open(tmp_path / "out" / "face.png"))).permute(2, 0, 1).float()
    wanted = model.sample(1, condition={"image": given, "label": torch.tensor([2])})[0]
    assert ((wanted + 1) * 127.5 - made).abs().max() <= 1


@pytest.mark.parametrize(
    ("model", "to", "said"),
    [
        ("age-cgan", [], "age-cgan needs --to GROUP: 21-30, 41-50, 51-60"),
        ("age-cgan", ["--to", "51-61"], "--to 51-61: the groups are 21-30, 41-50, 51-60; did you mean '51-60'?"),
        ("pix2pix", ["--to", "51-60"], "--to 51-60: pix2pix knows no groups"),
    ],
)
def test_a_group_that_is_missing_or_unknown_is_named_and_nothing_is_written(
    model: str, to: list[str], said: str, tmp_path: Path
) -> None:
    built = small() if model == "age-cgan" else Pix2Pix((3, 32, 32), width=4, patch=16, norm="instance")
    checkpoint = save(built, model, tmp_path)
    paint(tmp_path / "in" / "face.png")
    arguments = ["translate", str(checkpoint), "--input", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *to]
    done = CliRunner().invoke(main, arguments, prog_name="lgen")
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_it_draws_nothing_without_a_picture() -> None:
    with pytest.raises(UserError, match="draws no pictures of its own"):
        small().sample(1, condition={"label": torch.tensor([0])})


def test_a_shared_one_is_said_to_translate_like_models_of_two_views() -> None:
    assert AgeCGAN.translates
    assert Pix2Pix.translates
    assert not DCGAN.translates
