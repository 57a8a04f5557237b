"""StyleGAN2's layers against the formulas of its paper, and what it does every fourth and sixteenth update."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen import checkpoints
from lightning_gen.checkpoints import AtomicCheckpointIO
from lightning_gen.data.module import RunData
from lightning_gen.data.shapes import Shapes
from lightning_gen.errors import UserError
from lightning_gen.layers import blur, enlarged
from lightning_gen.losses import zero_centred_penalty
from lightning_gen.models import stylegan2
from lightning_gen.models.stylegan2 import ModulatedConv2d, StyleGAN2

SMALL: dict[str, Any] = {"image_shape": (3, 16, 16), "latent_dim": 8, "mapping_layers": 2, "width": 8}


def small(**settings: Any) -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(**{**SMALL, **settings})


def zeros_between(x: Tensor) -> Tensor:
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2] - 1, 2 * x.shape[3] - 1)
    wide[:, :, ::2, ::2] = x
    return wide


def low_pass(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return F.conv2d(F.pad(x, padding).flatten(0, 1).unsqueeze(1), torch.outer(taps, taps)[None, None]).unflatten(
        0, x.shape[:2]
    )[:, :, 0]


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulating_features_is_modulating_the_weights_of_each_image(up: bool, demodulate: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(5, 6, 3, 4, demodulate, up)
    x, w = torch.randn(3, 5, 7, 7), torch.randn(3, 4)
    for image, style, found in zip(x, layer.style(w), layer(x, w), strict=True):
        weight = layer.weight * layer.scale * style.view(1, -1, 1, 1)  # equation 1
        if demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # equation 3
        if up:
            whole = F.conv2d(zeros_between(image[None]), weight.flip(2, 3), padding=2)
            expected = 4 * low_pass(whole, (1, 1, 1, 1))
        else:
            expected = F.conv2d(image[None], weight, padding=1)
        torch.testing.assert_close(found[None], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_demodulation_keeps_unit_variance_whatever_the_style(strength: float) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(64, 64, 3, 16)
    w = strength * torch.randn(8, 16)
    inner = layer(torch.randn(8, 64, 16, 16), w)[:, :, 2:-2, 2:-2]
    assert inner.var(dim=(1, 2, 3)).tolist() == pytest.approx([1.0] * 8, abs=0.15)


def test_filtering_keeps_brightness_and_has_no_side() -> None:
    flat = torch.full((1, 2, 12, 12), 0.7)
    torch.testing.assert_close(blur(flat, padding=1)[:, :, 1:-1, 1:-1], flat[:, :, :9, :9])
    torch.testing.assert_close(enlarged(flat)[:, :, 2:-2, 2:-2], torch.full((1, 2, 20, 20), 0.7))
    x = torch.randn(2, 3, 8, 8)
    for f in (lambda image: blur(image, padding=2), enlarged):
        torch.testing.assert_close(f(x.flip(3)), f(x).flip(3))
    torch.testing.assert_close(enlarged(x), 4 * low_pass(zeros_between(x), (2, 2, 2, 2)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("resolution", [8, 16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_power_of_two_is_made_and_judged(resolution: int, channels: int) -> None:
    model = small(image_shape=(channels, resolution, resolution), width=4)
    images = model.sample(2)
    assert images.shape == (2, channels, resolution, resolution)
    assert model.discriminator(images).shape == (2,)
    assert model.generator.num_styles == 2 * math.log2(resolution) - 2


@pytest.mark.parametrize("resolution", [4, 24, 2048])
def test_other_sizes_are_refused(resolution: int) -> None:
    with pytest.raises(UserError, match=f"not {resolution} x {resolution}"):
        small(image_shape=(3, resolution, resolution))


def test_truncation_goes_from_the_mean_image_to_the_whole_distribution() -> None:
    model = small(ema_halflife_kimg=0.0)
    model.generator.mean_style.normal_()
    mean = model.generator(model.generator.mean_style.expand(1, model.generator.num_styles, -1))
    none = model.sample(3, truncation=0.0)
    torch.testing.assert_close(none, mean.detach().expand(3, -1, -1, -1))
    assert torch.equal(model.sample(3, truncation=1.0), model.sample(3))
    spread = [model.sample(64, truncation=psi).std(0).mean().item() for psi in (0.0, 0.3, 0.7, 1.0)]
    assert spread == sorted(spread)
    assert spread[0] < 1e-5 < spread[1]


def test_the_mean_style_follows_the_styles_that_training_draws() -> None:
    model = small()
    for _ in range(1500):
        model.mixed_styles(16, follow=True)
    drawn = model.generator.styles(torch.randn(20_000, model.latent_dim)).mean(0)
    spread = model.generator.styles(torch.randn(2000, model.latent_dim)).std(0)
    assert ((model.generator.mean_style - drawn).abs() < 0.1 * spread).all()


def test_mixed_styles_change_once_and_only_in_their_share_of_the_images() -> None:
    model = small(image_shape=(3, 64, 64), mixing=0.5)
    styles = model.mixed_styles(2000)
    changes = (styles[:, 1:] != styles[:, :-1]).any(2).sum(1)
    assert set(changes.tolist()) == {0, 1}
    assert changes.float().mean().item() == pytest.approx(0.5, abs=0.05)
    where = (styles[:, 1:] != styles[:, :-1]).any(2).float().sum(0)
    assert (where / where.sum()).tolist() == pytest.approx([1 / 9] * 9, abs=0.03)
    model.hparams.mixing = 0.0
    styles = model.mixed_styles(10)
    assert torch.equal(styles, styles[:, :1].expand_as(styles))


def test_noise_is_new_while_training_and_constant_in_samples() -> None:
    model = small(ema_halflife_kimg=0.0)
    for layer in model.generator.layers:
        torch.nn.init.ones_(layer.noise_strength)
    styles = model.mixed_styles(1).expand(2, -1, -1)
    first, second = model.generator(styles, model.noise(2))
    assert not torch.allclose(first, second)
    first, second = model.generator(styles)
    torch.testing.assert_close(first, second)


def test_both_regularisers_reach_the_weights_that_they_are_for() -> None:
    model = small()
    model.path_deviation(4).backward()
    without = {name for name, p in model.generator.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    # a bias behind no activation shifts the image but not its slope, nor does noise of strength 0
    assert {name for name in without if not name.startswith("to_rgb") or ".conv." in name} == set()
    assert all(torch.isfinite(p.grad).all() for p in model.generator.parameters() if p.grad is not None)
    real = torch.rand(4, 3, 16, 16).requires_grad_()
    zero_centred_penalty(model.discriminator(real), real).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.discriminator.parameters() if p.grad is not None)
    assert model.discriminator.from_rgb.weight.grad.abs().max() > 0


def train(model: StyleGAN2, steps: int, save: Path, restore: Path | None = None) -> StyleGAN2:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(
        model, datamodule=RunData(Shapes(size=40, resolution=16), 4, 1, seed=0), ckpt_path=restore, weights_only=True
    )
    trainer.save_checkpoint(save)
    return model


def test_regularisers_are_due_by_the_updates_since_the_start_also_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    due: list[tuple[str, int]] = []
    penalty, deviation = zero_centred_penalty, StyleGAN2.path_deviation

    def watched_penalty(*arguments: Any) -> Any:
        due.append(("r1", model.clock.images // 4))
        return penalty(*arguments)

    def watched_deviation(self: StyleGAN2, n: int) -> Any:
        due.append(("path", self.clock.images // 4))
        return deviation(self, n)

    monkeypatch.setattr(stylegan2, "zero_centred_penalty", watched_penalty)
    monkeypatch.setattr(StyleGAN2, "path_deviation", watched_deviation)
    settings = {"penalty_every": 3, "path_every": 2}
    model = small(**settings)
    train(model, 4, tmp_path / "half.ckpt")
    assert due == [("r1", 0), ("path", 0), ("path", 2), ("r1", 3)]
    due.clear()
    model = small(**settings)
    train(model, 7, tmp_path / "whole.ckpt", tmp_path / "half.ckpt")
    assert due == [("path", 4), ("r1", 6), ("path", 6)]


def test_the_running_mean_of_path_lengths_is_saved_with_the_weights(tmp_path: Path) -> None:
    model = train(small(), 2, tmp_path / "run.ckpt")
    saved = checkpoints.read(tmp_path / "run.ckpt")["state_dict"]["mean_length"]
    assert torch.equal(saved, model.mean_length)
    assert saved > 0
    before = model.mean_length.item()
    lengths: list[Tensor] = []
    original = stylegan2.path_lengths
    stylegan2.path_lengths = lambda *arguments: lengths.append(original(*arguments)) or lengths[-1]  # type: ignore[func-returns-value]
    try:
        model.path_deviation(4)
    finally:
        stylegan2.path_lengths = original
    assert model.mean_length.item() == pytest.approx(0.99 * before + 0.01 * lengths[0].mean().item())


def test_the_mapping_network_learns_at_a_hundredth_of_the_rate_and_lazy_steps_are_shorter() -> None:
    model = small(lr=0.1, betas=(0.5, 0.99))
    opt_d, opt_g = model.configure_optimizers()
    assert opt_d.defaults["betas"] == pytest.approx((0.5 ** (16 / 17), 0.99 ** (16 / 17)))
    assert [group["lr"] for group in opt_d.param_groups] == pytest.approx([0.1 * 16 / 17])
    assert [group["lr"] for group in opt_g.param_groups] == pytest.approx([0.1 * 4 / 5, 0.001 * 4 / 5])
    held = [p for group in opt_g.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.generator.parameters()}
    assert len(held) == len(list(model.generator.parameters()))
    assert small(path_penalty=0.0, lr=0.1).configure_optimizers()[1].param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_hundredth_of_adams_rate_is_the_papers_multiplier_on_the_weights() -> None:
    start, slope = torch.randn(5), torch.randn(5)
    ours = torch.nn.Parameter(start.clone())
    theirs = torch.nn.Parameter(start / 0.01)  # used as 0.01 * theirs
    for weight, scale, lr in ((ours, 1.0, 0.01 * 0.002), (theirs, 0.01, 0.002)):
        optimizer = torch.optim.Adam([weight], lr=lr, betas=(0.0, 0.99))
        for _ in range(5):
            optimizer.zero_grad()
            (scale * weight * slope).pow(2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(0.01 * theirs, ours)


def test_a_length_that_overflowed_is_left_out_of_the_running_mean() -> None:
    model = small()
    for length in (2.0, float("inf"), float("nan")):
        model.trail(model.mean_length, torch.tensor(length), 0.5)
    assert model.mean_length.item() == 1.0
