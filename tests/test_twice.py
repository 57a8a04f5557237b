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


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")  # PyTorch's own
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


LAYERS = {
    "convolution": lambda: nn.Conv2d(8, 16, 3, padding=1),
    "transposed": lambda: nn.ConvTranspose2d(8, 16, 3, padding=1),
    "depthwise, dilated": lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8),
}


@pytest.mark.parametrize("batch", [2, 3, 4, 8, 14])
@pytest.mark.parametrize("kind", LAYERS)
def test_penalties_in_bf16_are_those_in_float32(kind: str, batch: int) -> None:
    """Without these convolutions the cosine is 0.6 to 0.99 for even batches on processors with AMX."""
    torch.manual_seed(batch)
    layer = LAYERS[kind]().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 8, 32, 32).contiguous(memory_format=torch.channels_last)
    with twice.Convolutions():
        rounded = penalty(layer, images)
    assert float(torch.cosine_similarity(penalty(layer, images, enabled=False), rounded, dim=0)) > 0.999


def test_a_pass_by_the_images_computes_no_gradient_by_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), torch.randn(2, 3, 8, 8, requires_grad=True)
    asked: list[int] = []
    plain = twice._gradient

    def noted(place: int, *arguments: Any) -> Any:
        asked.append(place)
        return plain(place, *arguments)

    monkeypatch.setattr(twice, "_gradient", noted)
    with twice.Convolutions():
        value = layers(images).sum()
    torch.autograd.grad(value, images, create_graph=True)
    assert asked == [0, 0]
    weights = list(layers.parameters())
    assert all(slope is not None for slope in torch.autograd.grad(value, weights, retain_graph=True))
    value.backward()
    assert all(weight.grad is not None for weight in weights)


def test_outside_of_a_penalty_and_in_float32_convolutions_are_pytorchs() -> None:
    layer, images = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    execution.follow_penalties(layer, "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        assert "_Convolution" not in layer(images).grad_fn.name()
        assert "_Convolution" in layer(images.requires_grad_()).grad_fn.name()
        assert layer(images[0]).shape == (4, 6, 6)
    assert "_Convolution" not in layer(images).grad_fn.name(), "in float32 PyTorch's own are right"


def test_what_pytorch_refuses_or_leaves_in_float64_is_so_inside_too() -> None:
    images, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    with twice.Convolutions():
        for options in ({"padding": "full"}, {"padding": "same", "stride": 2}):
            with pytest.raises((RuntimeError, ValueError), match="padding"):
                torch.conv2d(images, weight, **options)
        slope = torch.func.grad(lambda given: torch.conv2d(given, weight).sum())(images)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.conv2d(images.double(), weight.double()).dtype == torch.float64
    assert slope.shape == images.shape


def test_networks_in_a_list_are_followed_too() -> None:
    first, second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
    model = nn.Module()
    model.critics = nn.ModuleList([first, nn.ModuleDict({"small": second})])
    assert list(execution.networks(model)) == [first, second]
