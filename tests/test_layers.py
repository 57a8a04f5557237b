"""Blocks against what their papers say of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_gen.layers import EqualizedConv2d, EqualizedLinear, he_weights, minibatch_stddev, pixel_norm


def test_equalized_layers_keep_the_variance_that_he_initialisation_keeps() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 128)
    assert abs(EqualizedLinear(128, 512, gain=1.0)(x).var().item() - 1) < 0.1
    images = torch.randn(16, 32, 12, 12)
    inner = EqualizedConv2d(32, 64, 3, gain=1.0)(images)[:, :, 2:-2, 2:-2]  # away from the zero padding
    assert abs(inner.var().item() - 1) < 0.1


def test_equalized_weights_are_stored_at_unit_scale() -> None:
    torch.manual_seed(0)
    assert abs(EqualizedConv2d(64, 64, 3).weight.std().item() - 1) < 0.02


def test_pixel_norm_gives_every_pixel_unit_mean_square() -> None:
    x = pixel_norm(7 * torch.randn(3, 16, 5, 5))
    torch.testing.assert_close(x.square().mean(1), torch.ones(3, 5, 5))


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e4])
def test_pixel_norm_of_half_precision_is_that_of_float32(size: float) -> None:
    x = torch.linspace(-size, size, 8).half().view(1, 8, 1, 1)
    torch.testing.assert_close(pixel_norm(x), pixel_norm(x.float()).half())


def test_minibatch_stddev_is_zero_for_equal_images_and_the_deviation_for_others() -> None:
    equal = minibatch_stddev(torch.ones(4, 2, 3, 3))
    assert equal.shape == (4, 3, 3, 3)
    assert equal[:, 2].abs().max() < 1e-3
    apart = torch.tensor([-1.0, 1.0, -1.0, 1.0]).view(4, 1, 1, 1).expand(4, 2, 3, 3)
    torch.testing.assert_close(minibatch_stddev(apart)[:, 2], torch.ones(4, 3, 3))


def test_minibatch_stddev_takes_any_batch_in_groups() -> None:
    x = torch.randn(10, 2, 3, 3)
    whole = minibatch_stddev(x, group=4)
    torch.testing.assert_close(whole[:4], minibatch_stddev(x[:4], group=4))
    torch.testing.assert_close(whole[8:], minibatch_stddev(x[8:], group=4))


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(32, 512, 3, padding=1), nn.Conv2d(32, 512, 4, 2, 1), nn.Linear(16, 512)], ids=str
)
def test_he_weights_keep_the_mean_square_of_what_has_passed_a_leaky_relu(layer: nn.Module) -> None:
    torch.manual_seed(0)
    layer.apply(he_weights)
    x = nn.functional.leaky_relu(torch.randn(8, 32, 16, 16), 0.2)
    out = nn.functional.leaky_relu(layer(x), 0.2)[:, :, 2:-2, 2:-2]  # away from the zero padding
    assert out.square().mean().item() == pytest.approx(x.square().mean().item(), rel=0.1)
