"""Every registered model keeps the contract, and has the size its paper's code has."""

from __future__ import annotations

import itertools

import pytest
import torch

from lightning_gen import registry
from lightning_gen.errors import UserError
from lightning_gen.models.dcgan import DCGAN
from lightning_gen.models.progan import Growth, ProGAN
from lightning_gen.testing import check_model

PUBLISHED = {
    # model, settings: trainable parameters of (generator, discriminator), and where the numbers come from
    ("progan", "paper"): (23_079_115, 23_087_249),  # tkarras networks.py, all toRGB and fromRGB layers
    ("dcgan", "width 64"): (3_576_704, 2_765_568),  # pytorch/examples and lightning-bolts
    ("dcgan", "grey"): (3_574_656, 2_763_520),
}
SETTINGS = {"paper": ProGAN.presets["paper"], "width 64": {}, "grey": {"image_shape": (1, 64, 64)}}


def trainable(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", registry.names("models"))
def test_a_registered_model_keeps_the_contract(name: str) -> None:
    check_model(name)


@pytest.mark.parametrize(("name", "settings"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str, settings: str) -> None:
    with torch.device("meta"):
        model = registry.load(name)(**SETTINGS[settings])
    assert (trainable(model.generator), trainable(model.discriminator)) == PUBLISHED[name, settings]


def test_the_dcgan_paper_preset_has_the_layers_of_figure_1() -> None:
    with torch.device("meta"):
        model = DCGAN(**DCGAN.presets["paper"])
        x, shapes = torch.empty(1, 100, 1, 1), []
        for layer in model.generator:
            x = layer(x)
            if isinstance(layer, torch.nn.ConvTranspose2d):
                shapes.append(tuple(x.shape[1:]))
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]


@pytest.mark.parametrize("resolution", [4 << stage for stage in range(9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_progan_makes_every_power_of_two_from_4_to_1024(resolution: int, channels: int) -> None:
    model = ProGAN(
        image_shape=(channels, resolution, resolution), latent_dim=4, width=4, width_base=64, stable_kimg=0, fade_kimg=0
    )
    assert model.sample(2).shape == (2, channels, resolution, resolution)
    last = model.growth.last_stage
    assert model.discriminator(model.sample(2), last, 1.0).shape == (2,)


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_dcgan_makes_its_three_sizes(resolution: int) -> None:
    model = DCGAN(image_shape=(3, resolution, resolution), width=4)
    images = model.sample(2)
    assert images.shape == (2, 3, resolution, resolution)
    assert model.discriminator(images).shape == (2,)


@pytest.mark.parametrize("cls", [ProGAN, DCGAN])
@pytest.mark.parametrize("shape", [(3, 48, 48), (3, 2048, 2048), (3, 32, 64)])
def test_an_impossible_size_is_refused_in_one_line(cls: type, shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=f"not {shape[1]} x {shape[2]}"):
        cls(image_shape=shape)


def test_growth_is_continuous_ends_at_the_last_stage_and_never_shrinks() -> None:
    growth = Growth(last_stage=3, fade_kimg=2, stable_kimg=1)
    seen = [growth.at(images) for images in range(0, 14_000, 10)]
    sizes = [stage - 1 + alpha for stage, alpha in seen]
    assert seen[0] == (0, 1.0)
    assert seen[-1] == (3, 1.0)
    assert all(0 <= b - a < 0.02 for a, b in itertools.pairwise(sizes))
    assert {stage for stage, alpha in seen if alpha == 1.0} == {0, 1, 2, 3}


def test_fading_in_begins_where_the_smaller_network_was() -> None:
    torch.manual_seed(0)
    model = ProGAN(image_shape=(3, 16, 16), latent_dim=8, width=8, width_base=64)
    z = torch.randn(4, 8)
    small = model.generator(z, 1, 1.0).repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(model.generator(z, 2, 1e-6), small, atol=1e-4, rtol=0)
    images = torch.rand(4, 3, 16, 16)
    shrunk = torch.nn.functional.avg_pool2d(images, 2)
    torch.testing.assert_close(
        model.discriminator(images, 2, 1e-6), model.discriminator(shrunk, 1, 1.0), atol=1e-4, rtol=0
    )
