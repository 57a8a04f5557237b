"""DINOv2 is a vision transformer with scaled branches: torchvision's, once the scales are multiplied in."""

import pytest
import torch
from torch import Tensor
from torchvision.models.vision_transformer import VisionTransformer

from lightning_gen.metrics.dinov2 import DEPTH, GRID, HEADS, PATCH, WIDTH, DINOv2


@pytest.fixture(scope="module")
def network() -> DINOv2:
    """Random weights, on pictures of 8 x 8 patches."""
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        network = DINOv2()
    state = {
        name: float(name.endswith(("gamma", "norm1.weight", "norm2.weight", "norm.weight")))
        + 0.05 * torch.randn(weight.shape, generator=random)
        for name, weight in network.state_dict().items()
    }
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def as_torchvision(ours: dict[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
    found = {"class_token": ours["cls_token"], "encoder.pos_embedding": positions}
    for kind in ("weight", "bias"):
        found[f"conv_proj.{kind}"] = ours[f"patch_embed.proj.{kind}"]
        found[f"encoder.ln.{kind}"] = ours[f"norm.{kind}"]
        for i in range(DEPTH):
            block, layer = f"blocks.{i}", f"encoder.layers.encoder_layer_{i}"
            scales = [ours[f"{block}.ls{branch}.gamma"] for branch in (1, 2)]
            if kind == "weight":
                scales = [scale[:, None] for scale in scales]
            found |= {
                f"{layer}.ln_1.{kind}": ours[f"{block}.norm1.{kind}"],
                f"{layer}.self_attention.in_proj_{kind}": ours[f"{block}.attn.qkv.{kind}"],
                f"{layer}.self_attention.out_proj.{kind}": scales[0] * ours[f"{block}.attn.proj.{kind}"],
                f"{layer}.ln_2.{kind}": ours[f"{block}.norm2.{kind}"],
                f"{layer}.mlp.0.{kind}": ours[f"{block}.mlp.fc1.{kind}"],
                f"{layer}.mlp.3.{kind}": scales[1] * ours[f"{block}.mlp.fc2.{kind}"],
            }
    return found


def test_it_is_torchvisions_transformer_with_scaled_branches(network):
    side = 8
    with torch.device("meta"):
        other = VisionTransformer(side * PATCH, PATCH, DEPTH, HEADS, WIDTH, 4 * WIDTH)
    other.heads = torch.nn.Identity()
    other.load_state_dict(as_torchvision(network.state_dict(), network.positions(side)), assign=True)
    pictures = torch.randn(2, 3, side * PATCH, side * PATCH, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(pictures), other.eval()(pictures), rtol=1e-4, atol=1e-5)


def test_positions_are_learned_on_its_own_grid_and_scaled_by_a_tenth_more_for_others(network):
    assert network.positions(GRID) is network.pos_embed
    ramp = DINOv2()
    with torch.no_grad():
        ramp.pos_embed[:, 1:] = torch.arange(GRID).repeat(GRID)[:, None].float()  # the value is the column
        ramp.pos_embed[:, 0] = -1
        found = ramp.positions(16)
    assert found.shape == (1, 1 + 16 * 16, WIDTH)
    assert torch.equal(found[:, 0], torch.full((1, WIDTH), -1.0))
    row = found[0, 1 : 1 + 16, 0]
    column = (torch.arange(16) + 0.5) * GRID / 16.1 - 0.5
    exact = (torch.arange(16) + 0.5) * GRID / 16 - 0.5
    assert (row - column)[1:-1].abs().max() < 0.06  # torch's bicubic bends a ramp by so much
    assert (row - exact)[1:-1].abs().max() > 0.15
