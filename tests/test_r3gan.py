"""R3GAN's networks, loss and burn-in against its paper."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen.augment import ADA, DiffAugment
from lightning_gen.errors import UserError
from lightning_gen.models.r3gan import R3GAN, Halved, ResidualBlock
from lightning_gen.update import Update

SMALL: dict[str, Any] = {"image_shape": (3, 16, 16), "latent_dim": 8, "width": 16, "blocks": 1}


def small(**settings: Any) -> R3GAN:
    torch.manual_seed(0)
    return R3GAN(**{**SMALL, **settings})


def test_a_block_begins_as_the_identity_and_its_gradient_does_not_grow_with_the_depth() -> None:
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(ResidualBlock(16, 16, 4)(x), x)
    spreads = [small(blocks=count).discriminator(torch.randn(64, 3, 16, 16)).std().item() for count in (1, 8)]
    assert spreads[1] == pytest.approx(spreads[0], rel=0.5)
    # before the last layer of the blocks moves, an update of size e moves the output by about e whatever the depth
    moved = []
    for count in (1, 8):
        model = small(blocks=count)
        images = torch.randn(64, 3, 16, 16)
        before = model.discriminator(images)
        for block in (module for module in model.discriminator.modules() if isinstance(module, ResidualBlock)):
            nn.init.normal_(block[-1].weight, 0.0, 0.02 / count**0.5)
        moved.append((model.discriminator(images) - before).std().item())
    assert moved[1] < 2 * moved[0]


def test_blocks_are_inverted_bottlenecks_of_grouped_convolutions_without_normalisation() -> None:
    block = ResidualBlock(768, 16, 8)
    shapes = [tuple(layer.weight.shape) for layer in block if isinstance(layer, nn.Conv2d)]
    assert shapes == [(1536, 768, 1, 1), (1536, 16, 3, 3), (768, 1536, 1, 1)]
    assert not [m for m in small().modules() if "norm" in type(m).__name__.lower()]


def test_the_discriminator_halves_by_the_published_filter() -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    images = torch.randn(2, 3, 8, 8)
    expected = F.conv2d(images.flatten(0, 1)[:, None], torch.outer(taps, taps)[None, None], stride=2, padding=1)
    torch.testing.assert_close(Halved()(images), expected.view(2, 3, 4, 4))


def test_the_generator_starts_with_unit_features_and_blocks_see_a_whole_neighbourhood() -> None:
    model = small(width=256, width_base=4096)
    x = model.generator.scales(torch.randn(512, 8))[:, :, None, None] * model.generator.basis
    assert x.var().item() == pytest.approx(1.0, abs=0.15)
    block = ResidualBlock(16, 16, 1)
    nn.init.normal_(block[-1].weight)
    x = torch.randn(1, 16, 12, 12)
    torch.testing.assert_close(  # a convolution moves with what it sees
        block(x.roll((2, 3), (2, 3)))[:, :, 4:-4, 4:-4], block(x).roll((2, 3), (2, 3))[:, :, 4:-4, 4:-4]
    )


class Slope(nn.Module):
    """A linear discriminator: its penalties are known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * 16 * 16))

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return images.flatten(1) @ self.weight


@pytest.mark.parametrize("seen", [0, 10_000])
def test_the_discriminator_minimises_the_pairing_loss_and_both_penalties(
    seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(penalty=0.5, penalty_final=0.1, burn_in_kimg=10.0)
    model.discriminator = Slope()
    model.clock.images = seen
    losses: list[Tensor] = []

    @contextmanager
    def update(optimizer: Any) -> Any:
        step = Update(model)
        step.grad_norm = torch.zeros(())
        yield step

    monkeypatch.setattr(model, "update", update)
    monkeypatch.setattr(model, "manual_backward", losses.append)
    monkeypatch.setattr(model, "optimizers", model.configure_optimizers)
    out = model.training_step({"image": torch.rand(4, 3, 16, 16)}, 0)
    gamma = 0.5 if seen == 0 else 0.1
    # R1 = R2 = |a|^2 / 2 for D(x) = a x
    squares = model.discriminator.weight.square().sum()
    torch.testing.assert_close(losses[0], out["loss_d"] + gamma * squares)
    pairs = out["logits_fake"] - out["logits_real"]
    torch.testing.assert_close(out["loss_d"], nn.functional.softplus(pairs).mean())
    assert not torch.equal(losses[1].detach(), out["loss_d"])
    torch.testing.assert_close(losses[1].detach(), out["loss_g"])


def test_the_burn_in_goes_along_half_a_cosine_and_stays() -> None:
    model = small(
        lr=4e-3, lr_final=1e-3, betas=(0.0, 0.9), beta2_final=0.99, penalty=1.0, penalty_final=0.0, burn_in_kimg=1.0
    )
    (optimizer, _) = model.configure_optimizers()
    found = []
    for images in (0, 250, 500, 1000, 5000):
        model.clock.images = images
        gamma = model.anneal(optimizer)
        group = optimizer.param_groups[0]
        found.append((group["initial_lr"], group["betas"][1], gamma))
    early = (1 + 0.5**0.5) / 2
    assert found[0] == pytest.approx((4e-3, 0.9, 1.0))
    assert found[1] == pytest.approx((1e-3 + 3e-3 * early, 0.99 - 0.09 * early, early))
    assert found[2] == pytest.approx((2.5e-3, 0.945, 0.5))
    assert found[3] == found[4] == pytest.approx((1e-3, 0.99, 0.0))


def test_the_burn_in_also_sets_the_probability_of_ada_and_leaves_other_augmentation_alone() -> None:
    model = small(burn_in_kimg=1.0, augment_final=0.4)
    model.augment = ADA()
    for images, p in ((0, 0.0), (500, 0.2), (2000, 0.4)):
        model.clock.images = images
        model.anneal()
        assert model.augment.strength == pytest.approx(p)
    model.augment = DiffAugment()
    model.anneal()
    assert model.augment.strength == 1.0


def test_a_label_changes_the_image_and_the_logit() -> None:
    model = small(num_classes=3, conditional=True, ema_halflife_kimg=0.0)
    z, images = torch.randn(1, 8).expand(3, -1), torch.rand(1, 3, 16, 16).expand(3, -1, -1, -1)
    labels = torch.arange(3)
    for outcome in (model.generator(z, labels), model.discriminator(images, labels)):
        assert all(not torch.allclose(outcome[i], outcome[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert model.sample(4, condition={"label": torch.tensor([0, 1, 2, 0])}).shape == (4, 3, 16, 16)
    assert small(num_classes=3).num_classes == 0


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(UserError, match="not 24 x 24"):
        small(image_shape=(3, 24, 24))
    with pytest.raises(UserError, match=r"no labels.*--model.conditional false"):
        small(conditional=True, num_classes=0)
    with pytest.raises(UserError, match=r"--model.group_width 24 does not divide 32"):
        small(group_width=24)


@pytest.mark.parametrize("resolution", [8, 16, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_power_of_two_is_made_and_judged(resolution: int, channels: int) -> None:
    model = small(image_shape=(channels, resolution, resolution), width_base=256)
    images = model.sample(2)
    assert images.shape == (2, channels, resolution, resolution)
    assert model.discriminator(images).shape == (2,)
