"""Convolutions inside a penalty are PyTorch's to the last derivative, and right in bf16, where PyTorch's are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_gen import execution, twice


@st.composite
def calls(draw: st.DrawFn) -> tuple[Any, Tensor, Tensor, dict[str, Any]]:
    """One of PyTorch's convolutions, images and weights in float64, and further arguments."""
    dimensions, transposed = draw(st.integers(1, 3)), draw(st.booleans())
    groups = draw(st.sampled_from([1, 2]))
    kernel = draw(st.lists(st.integers(1, 3), min_size=dimensions, max_size=dimensions))
    options: dict[str, Any] = {
        "stride": draw(st.integers(1, 2)),
        "dilation": draw(st.one_of(st.integers(1, 2), st.just([2] * dimensions))),
        "groups": groups,
        "bias": torch.randn(2 * groups, dtype=torch.float64, requires_grad=True) if draw(st.booleans()) else None,
    }
    if transposed:
        options |= {"padding": 0, "output_padding": options["stride"] - 1}
    elif options["stride"] == 1:
        options["padding"] = draw(st.sampled_from([0, 1, "same", "valid"]))
    else:
        options["padding"] = draw(st.integers(0, 1))
    into = 2 * groups
    shape = (into, 2) if transposed else (2 * groups, into // groups)
    images = torch.randn(2, into, *[6] * dimensions, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(*shape, *kernel, dtype=torch.float64, requires_grad=True)
    function = getattr(torch, f"conv{'_transpose' if transposed else ''}{dimensions}d")
    return function, images, weight, options


@settings(max_examples=60, deadline=None)
@given(calls())
def test_outputs_and_derivatives_up_to_the_third_are_those_of_pytorch(
    call: tuple[Any, Tensor, Tensor, dict[str, Any]],
) -> None:
    function, images, weight, options = call
    leaves = [leaf for leaf in (images, weight, options["bias"]) if leaf is not None]
    orders = 2 if "output_padding" in options else 3  # PyTorch's own third derivative raises there

    def derivatives() -> list[Tensor]:
        output = function(images, weight, **options)
        found, value = [output], output.pow(3).sum()
        for _ in range(orders):
            slopes = torch.autograd.grad(value, leaves, create_graph=True)
            found += slopes
            value = sum(slope.pow(2).sum() for slope in slopes) * 1e-3
        return found

    theirs = derivatives()
    with twice.Convolutions():
        ours = derivatives()
    assert "_Convolution" in ours[0].grad_fn.name()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-8 * float(other.detach().abs().max()))


def penalty(layer: nn.Module, images: Tensor, **autocast: Any) -> Tensor:
    """The gradient that a penalty on the images has by the layer's weights."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, **autocast):
        values = F.leaky_relu(layer(images), 0.2).float().square().sum()
        (slopes,) = torch.autograd.grad(values, images, create_graph=True)
    weight: Any = layer.weight
    (found,) = torch.autograd.grad(slopes.square().sum(), weight)
    return found.flatten()


@pytest.mark.parametrize("batch", [2, 3, 4, 8, 14])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_penalties_in_bf16_are_those_in_float32(kind: type[nn.Module], batch: int) -> None:
    """Without these convolutions the cosine is 0.6 to 0.99 for even batches on processors with AMX."""
    torch.manual_seed(batch)
    layer, images = kind(8, 16, 3, padding=1), torch.randn(batch, 8, 32, 32)
    with execution.differentiated_twice("cpu"):
        rounded = penalty(layer, images)
    assert float(torch.cosine_similarity(penalty(layer, images, enabled=False), rounded, dim=0)) > 0.999


def test_a_pass_by_the_images_computes_no_gradient_by_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), torch.randn(2, 3, 8, 8, requires_grad=True)
    asked: list[list[bool]] = []
    plain = twice._gradients

    def noted(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return plain(*arguments)

    monkeypatch.setattr(twice, "_gradients", noted)
    with twice.Convolutions():
        value = layers(images).sum()
    torch.autograd.grad(value, images, create_graph=True)
    assert asked == [[True, False, False]] * 2
    weights = list(layers.parameters())
    assert all(slope is not None for slope in torch.autograd.grad(value, weights, retain_graph=True))
    value.backward()
    assert all(weight.grad is not None for weight in weights)


def test_outside_of_a_penalty_convolutions_are_pytorchs() -> None:
    layer, images = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    execution.follow_penalties(layer, "cpu")
    assert "_Convolution" not in layer(images).grad_fn.name()
    assert "_Convolution" in layer(images.requires_grad_()).grad_fn.name()
    assert layer(images[0]).shape == (4, 6, 6)
