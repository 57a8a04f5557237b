"""Models that make pictures of pictures: published sizes, histories, phases, and what is done with their inputs."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_gen import registry
from lightning_gen.data.made_pairs import SuperResolution
from lightning_gen.data.module import RunData
from lightning_gen.data.pairs import Paired
from lightning_gen.errors import UserError
from lightning_gen.models.cyclegan import CycleGAN
from lightning_gen.models.pix2pix import Pix2Pix, UNet
from lightning_gen.models.srgan import SRGAN
from lightning_gen.module import GenerativeModule
from lightning_gen.perceptual import PerceptualLoss
from lightning_gen.testing import _Pixels
from lightning_gen.translators import PatchDiscriminator, ResNetGenerator

SMALL_CYCLE = {"image_shape": (3, 16, 16), "width": 4, "blocks": 1, "patch": 16}


def trainable(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def train(model: GenerativeModule, steps: int, batch: int = 4) -> None:
    model.examples = (source := _Pixels(model)).examples
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=-1, max_steps=steps, logger=False, use_distributed_sampler=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, datamodule=RunData(source, batch, 1, seed=0))


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        pix2pix, cyclegan, srgan = (cls(**cls.presets["paper"]) for cls in (Pix2Pix, CycleGAN, SRGAN))
    assert (trainable(pix2pix.generator), trainable(pix2pix.discriminator)) == (54_413_955, 2_768_705)
    for generator in (cyclegan.generator_ab, cyclegan.generator_ba):
        assert trainable(generator) == 11_378_179
    for discriminator in (cyclegan.discriminator_a, cyclegan.discriminator_b):
        assert trainable(discriminator) == 2_764_737
    assert (trainable(srgan.generator), trainable(srgan.discriminator)) == (1_549_462, 23_565_505)


def test_the_u_net_of_the_paper_goes_down_to_one_pixel_and_drops_in_three_layers() -> None:
    net = UNet(3, 3, 64, 8, "batch")
    widths = [layer[-1 if depth in (0, 7) else -2].out_channels for depth, layer in enumerate(net.down)]
    assert widths == [64, 128, 256, 512, 512, 512, 512, 512]
    assert sum(isinstance(module, torch.nn.Dropout) for module in net.modules()) == 3
    with torch.device("meta"):
        x = torch.empty(1, 3, 256, 256)
        for layer in net.to("meta").down:
            x = layer(x)
    assert x.shape == (1, 512, 1, 1)


@pytest.mark.parametrize(("patch", "side"), [(70, 30), (16, 14), (1, 32)])
def test_a_logit_sees_a_patch_of_the_side_it_is_named_after(patch: int, side: int) -> None:
    net = PatchDiscriminator(3, 4, patch, "batch").eval()  # type: ignore[arg-type]
    resolution = 32 if patch < 70 else 256
    with torch.no_grad():
        logits = net(torch.zeros(1, 3, resolution, resolution))
    assert logits.shape == (1, side * side)
    for norm in [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        norm.forward = lambda x: x  # type: ignore[method-assign]  # what a norm sees is the whole picture
    picture = torch.randn(1, 3, resolution, resolution, requires_grad=True)
    net(picture)[0, (side // 2) * side + side // 2].backward()
    assert picture.grad is not None
    reached = picture.grad[0].abs().sum(0).nonzero()
    assert (reached.amax(0) - reached.amin(0) + 1).tolist() == [patch, patch]


@pytest.mark.parametrize(("kind", "stride"), [("unet", 32), ("resnet", 4)])
def test_pix2pix_translates_any_size_that_is_a_multiple_of_its_stride(kind: str, stride: int) -> None:
    model = Pix2Pix((1, 32, 32), source_channels=3, generator_kind=kind, width=4, blocks=1, patch=16)  # type: ignore[arg-type]
    assert model.stride == stride
    assert model.sample(2, condition={"source": torch.zeros(2, 3, 64, 96)}).shape == (2, 1, 64, 96)


def test_batch_norm_does_not_let_neighbours_into_a_translation() -> None:
    model = Pix2Pix((3, 32, 32), width=4, patch=16, norm="batch")
    pictures = torch.rand(5, 3, 32, 32) * 2 - 1
    together = model.sample(5, condition={"source": pictures})
    alone = torch.cat([model.sample(1, condition={"source": picture[None]}) for picture in pictures])
    assert (together - alone).abs().max() < 1e-4


def test_pictures_may_come_as_bytes() -> None:
    model = Pix2Pix((3, 32, 32), width=4, patch=16)
    batch = Paired().examples(3)
    floats = {"source": batch["source"].float() / 127.5 - 1}
    assert (model.sample(3, condition=batch) - model.sample(3, condition=floats)).abs().max() < 1e-5


def test_without_pictures_and_data_there_is_no_sample() -> None:
    with pytest.raises(UserError, match="translates pictures and was given none: `lgen translate`"):
        Pix2Pix((3, 32, 32), width=4, patch=16).sample(2)


def test_the_history_fills_up_then_gives_back_about_every_second_time() -> None:
    model = CycleGAN(**SMALL_CYCLE, history=10)
    shown: list[Tensor] = []
    for step in range(100):
        model._name_noise(step)
        fakes = torch.full((2, 3, 16, 16), float(step))
        shown.append(model.from_history(model.history_a, fakes)[:, 0, 0, 0])
        model.clock.advance(2)
    now = torch.arange(100.0)[:, None]
    given = torch.stack(shown)
    assert torch.equal(given[:5], now[:5].expand(-1, 2)), "while it fills, what is new is shown"
    older = (given[5:] < now[5:]).float().mean().item()
    assert 0.4 < older < 0.6
    assert (given <= now).all()
    assert set(model.history_a[:, 0, 0, 0].tolist()) - set(range(5)), "what is shown makes room for what is new"


def test_two_processes_share_the_history_of_one() -> None:
    alone = CycleGAN(**SMALL_CYCLE, history=6)
    ranked = [CycleGAN(**SMALL_CYCLE, history=6) for _ in range(2)]
    for rank, model in enumerate(ranked):
        kept = {"global_rank": rank, "_world_size": lambda self: 2}
        model.__class__ = type("Ranked", (CycleGAN,), kept)
    for step in range(12):
        fakes = torch.rand(4, 3, 16, 16)
        alone._name_noise(step)
        chances = alone.rand(4, 2)
        alone._name_noise(step)
        shown = alone.from_history(alone.history_a, fakes)
        alone.clock.advance(4)
        for rank, model in enumerate(ranked):
            model._name_noise(step)
            model._of_all_ranks = lambda rows: fakes if rows.ndim == 4 else chances  # type: ignore[method-assign] # noqa: B023
            share = model.from_history(model.history_a, fakes[2 * rank : 2 * rank + 2])
            assert torch.equal(share, shown[2 * rank : 2 * rank + 2])
            assert torch.equal(model.history_a, alone.history_a)
            model.clock.advance(4)


def test_the_history_is_a_part_of_the_checkpoint() -> None:
    # that a resumed run has the same one, bit for bit, is check_model's: its history of 6 is full after two steps
    model = CycleGAN(**SMALL_CYCLE, history=6)
    train(model, 2)
    assert {"history_a", "history_b"} <= set(model.state_dict())
    assert (model.history_a.flatten(1).abs().sum(1) > 0).all()
    assert CycleGAN.checked["history"] == 6


def test_cyclegan_goes_both_ways() -> None:
    model = CycleGAN(**SMALL_CYCLE)
    batch = {"a": torch.rand(2, 3, 16, 16), "b": torch.rand(2, 3, 16, 16)}
    there, back = model.sample(2, condition=batch), model.sample(2, condition=batch, direction="ba")
    assert torch.allclose(there, model.generator_ab(batch["a"]), atol=1e-5)
    assert torch.allclose(back, model.generator_ba(batch["b"]), atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_srgan_enlarges_by_its_factor_any_size(factor: int) -> None:
    model = SRGAN((3, 32, 32), factor=factor, width=4, blocks=1, dense=4)  # type: ignore[arg-type]
    assert model.input_shape == SuperResolution(factor=factor).input_shape
    assert model.sample(1, condition={"low": torch.zeros(1, 3, 7, 9)}).shape == (1, 3, 7 * factor, 9 * factor)


@pytest.mark.parametrize(("factor", "blocks"), [(2, 1), (4, 2), (8, 3)])
def test_a_pixel_of_srgan_reaches_no_further_than_it_says(factor: int, blocks: int) -> None:
    model = SRGAN((3, 32, 32), factor=factor, width=2, blocks=blocks, dense=4)  # type: ignore[arg-type]
    low = torch.rand(1, 3, 61, 61)
    other = low.clone()
    other[..., 30, 30] += 1
    changed = model.sample(1, condition={"low": low}) != model.sample(1, condition={"low": other})
    rows = changed[0].any(0).any(1).nonzero().flatten()
    assert model.reach is not None
    assert rows.min() >= (30 - model.reach) * factor
    assert rows.max() < (31 + model.reach) * factor
    assert rows.min() <= (30 - model.reach + 2) * factor, "and not much less far"


def test_srgan_leaves_the_discriminator_alone_until_the_second_phase() -> None:
    model = SRGAN((3, 16, 16), width=4, blocks=1, dense=4, pretrain_kimg=0.008, perceptual="tiny")
    before = [p.clone() for p in model.discriminator.parameters()]
    train(model, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.discriminator.parameters(), strict=True))
    assert not any("perceptual" in name for name in model.state_dict())
    model = SRGAN((3, 16, 16), width=4, blocks=1, dense=4, pretrain_kimg=0.008, perceptual="tiny")
    before = [p.clone() for p in model.discriminator.parameters()]
    train(model, 3)
    assert not any(torch.equal(a, b) for a, b in zip(before[:1], model.discriminator.parameters(), strict=False))


def test_the_perceptual_distance_of_equal_pictures_is_nothing_and_has_a_gradient() -> None:
    loss = PerceptualLoss("tiny")
    target = torch.rand(2, 1, 32, 32) * 2 - 1
    made = (target + 0.1).requires_grad_()
    assert loss(target, target) == 0
    loss(made, target).backward()
    assert made.grad is not None
    assert made.grad.abs().sum() > 0


def test_missing_weights_of_vgg19_are_said_before_training(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LGEN_VGG19_WEIGHTS", str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=r"weights of vgg19: no file .*none\.pth \(LGEN_VGG19_WEIGHTS\)"):
        PerceptualLoss("vgg19")
    (tmp_path / "none.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is not torchvision's VGG19"):
        PerceptualLoss("vgg19")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("pix2pix", {"image_shape": (3, 48, 48)}, "square images of 16, 32, 64"),
        ("pix2pix", {"image_shape": (3, 16, 16)}, "--model.patch 70"),
        ("cyclegan", {"image_shape": (3, 34, 34)}, "a multiple of 4, not 34 x 34"),
        ("srgan", {"image_shape": (3, 40, 40)}, "a multiple of 16 pixels"),
    ],
)
def test_a_size_that_a_model_cannot_make_is_named(name: str, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        registry.load(name)(**settings)


def test_the_johnson_generator_keeps_the_size_of_multiples_of_four() -> None:
    assert ResNetGenerator(1, 3, 4, 1, "instance")(torch.zeros(1, 1, 20, 28)).shape == (1, 3, 20, 28)
